"""RESULTS.md: the claims, the arms with their budgets, and what was measured round by round. Written by claims.py."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from measures import DRAFTS, REWARDED, Runs, accuracy, between, curve, final, interval, spent

from asl_min.report import BUDGET, LEGEND, markdown, table

COMMAND = "make reproduce PROFILE=full"


def claims_table(rows: list[dict]) -> str:
    cells = [["claim", "", "metric", "effect (95% interval)", "seeds", "threshold", "verdict"]]
    for row in rows:
        for number, part in enumerate([row, *row["also"], *row["shown"]]):
            effect = (
                "-"
                if part["effect"] is None
                else f"{part['effect']:.2f}" + ("" if part["ci_low"] is None else f" ({part['ci_low']:.2f} to {part['ci_high']:.2f})")
            )
            verdict = f"**{row['verdict']}**" if number == 0 else part["verdict"]
            if number == 0 and row["also"]:
                verdict += f" (this part: {row['first_verdict']})"
            if number > len(row["also"]):
                verdict = f"(shown only: {verdict})"
            name = [row["id"], row["claim"]] if number == 0 else ["", ""]
            cells.append([*name, part["metric"], effect, str(part["n_seeds"]), f"> {part['threshold']:g}", verdict])
    return markdown(cells)


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Mean and half the 95% interval, "-" without a measurement."""
    values = [value for value in values if np.isfinite(value)]
    if not values:
        return "-"
    mean, low, _ = interval(values)
    return f"{mean:.{digits}f}" + (f" ± {mean - low:.{digits}f}" if len(values) > 1 else "")


def arms_table(runs: Runs) -> str:
    """Accuracy at the end, how far asl lies above it, at equal tokens (of the arm that sampled least), and what was spent in all rounds."""
    least = min((spent(s, "tokens")[-1] for seeds in runs.values() for s in seeds.values()), default=0)
    cells = [["arm", "seeds", "base", "final", "sd", "asl less this", "at equal tokens", *(key.replace("_", " ") for key in BUDGET)]]
    for arm, seeds in runs.items():
        finals = [final(s) for s in seeds.values()]
        sd = f"{np.std(finals, ddof=1):.1f}" if len(finals) > 1 else "-"
        equal = spread(np.interp(least, spent(s, "tokens"), accuracy(s)) for s in seeds.values())
        budget = [f"{np.mean([spent(s, key)[-1] for s in seeds.values()]):,.0f}" for key in BUDGET]
        less = "-" if arm == "asl" else spread(between("asl", arm, final)(runs))
        cells.append([arm, str(len(seeds)), spread(accuracy(s)[0] for s in seeds.values()), spread(finals), sd, less, equal, *budget])
    return markdown(cells)


ROUND_TABLES = {
    "Held-out accuracy, %": ("accuracy", "mean"),
    "GRM balanced accuracy, %": ("grm", "balanced_accuracy"),
    "GRM consistency, %": ("grm", "consistency"),
    "Answerable share of the tasks written, %": DRAFTS,
    "Rewarded tasks that the oracle can solve, %": REWARDED,
    "Rewarded tasks whose own answer is right, %": ("pg_answer_right",),
    "Base policy's accuracy on the round's tasks, %": ("frozen", "accuracy"),
    "PG reward, 0.01 nats (baselines: their own reward)": ("pg_reward",),
    "Policy reward: judged right, %": ("phase", "judge_reward"),
    "Policy's true accuracy on its tasks, %": ("phase", "true_accuracy"),
}


def rounds_table(runs: Runs, keys: tuple[str, ...]) -> str:
    rounds = max(len(s["rounds"]) for seeds in runs.values() for s in seeds.values())
    cells = [["arm", *map(str, range(rounds))]]
    for arm, seeds in runs.items():
        curves = [curve(s, *keys) for s in seeds.values()]
        cells.append([arm, *(spread(c[number] for c in curves if number < len(c)) for number in range(rounds))])
    return markdown(cells)


def catching_up(runs: Runs) -> str:
    """Search-R1 by its number of gold labels, and how far it lies above asl (paired by seed)."""
    cells = [["gold labels", "final accuracy, %", "less asl's, points"]]
    for arm in sorted((arm for arm in runs if arm.startswith("search_r1")), key=lambda arm: tasks_of(runs[arm])):
        cells.append([str(tasks_of(runs[arm])), spread(final(s) for s in runs[arm].values()), spread(between(arm, "asl", final)(runs))])
    return markdown(cells)


def tasks_of(seeds: dict[int, dict]) -> int:
    """Gold labels that a Search-R1 arm used in a round."""
    return max(row["gold_labels"] for summary in seeds.values() for row in summary["rounds"])


def rates_table(folder: Path) -> str:
    """Final accuracy on the validation split by arm and learning rate."""
    found: dict[str, dict[float, list[float]]] = {}
    for file in sorted(folder.glob("*.json")):
        summary = json.loads(file.read_text())
        found.setdefault(summary["recipe"], {}).setdefault(summary["config"]["learning_rate"], []).append(final(summary))
    rates = sorted({rate for of_arm in found.values() for rate in of_arm})
    return markdown([["arm", *(f"{rate:g}" for rate in rates)], *([arm, *(spread(of_arm.get(rate, [])) for rate in rates)] for arm, of_arm in found.items())])


def results_text(runs: Runs, rows: list[dict], folder: Path) -> str:
    """The text of RESULTS.md."""
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ("holds", "does not hold", "undecided", "not run")}
    parts = [
        "# Results",
        f"Made by `python reproduce/claims.py` from `runs/*.json`, not by hand; the runs by `{COMMAND}`. Effects are means over seeds with 95% "
        "t-intervals, paired by seed where arms are compared; a claim holds when the interval of each of its parts lies above the threshold.",
        "## Claims",
        ", ".join(f"{verdict}: {count}" for verdict, count in counts.items()) + ".",
        claims_table(rows),
        "\n".join(f"- {row['id']}: {row['note']}" for row in rows if row["note"]),
    ]
    if "asl" in runs:
        parts += ["## asl, round by round", LEGEND, markdown(table(list(runs["asl"].values())))]
    if runs:
        parts += [
            "## Arms",
            "Held-out exact match at temperature 1, mean over 1, 2 and 3 hops, %, ± half the 95% interval; sd: standard deviation of the final "
            "accuracy over seeds; asl less this: paired by seed. Budget: sums over all rounds of training. Gold labels: each round counts its own.",
            arms_table(runs),
        ]
        for title, keys in ROUND_TABLES.items():
            parts += [f"## {title}, by round", rounds_table(runs, keys)]
    if any(arm.startswith("search_r1") for arm in runs):
        parts += ["## Search-R1 by its gold labels", catching_up(runs)]
    if list((folder / "lr").glob("*.json")):
        parts += ["## Learning rates", "Final accuracy on the validation split, %.", rates_table(folder / "lr")]
    return "\n\n".join(part for part in parts if part) + "\n"
