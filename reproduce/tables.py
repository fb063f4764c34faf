"""RESULTS.md: the claims, the arms with their budgets, and what was measured round by round. Written by claims.py."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from asl_min.tools.summary import BUDGET
from asl_min.tools.table import LEGEND, markdown, table
from reproduce.measures import (
    DRAFTS,
    REWARDED,
    Runs,
    accuracy,
    between,
    curve,
    final,
    gain,
    interval,
    judge_error,
    judged_right,
    read_summary,
    spent,
    truly_right,
)

COMMAND = "make reproduce PROFILE=full"
SHARE = 0.999
"""The threshold of what must be 1, up to rounding."""


def claims_table(rows: list[dict]) -> str:
    cells = [["claim", "", "metric", "effect (95% interval)", "seeds", "threshold", "verdict"]]
    for row in rows:
        for number, part in enumerate([row, *row["also"], *row["shown"]]):
            effect = (
                "-"
                if part["effect"] is None
                else f"{part['effect']:.2f}"
                + ("" if part["ci_low"] is None else f" ({part['ci_low']:.2f} to {part['ci_high']:.2f})")
            )
            verdict = f"**{row['verdict']}**" if number == 0 else part["verdict"]
            if number == 0 and row["also"]:
                verdict += f" (this part: {row['first_verdict']})"
            if number > len(row["also"]):
                verdict = f"(shown only: {verdict})"
            name = [row["id"], row["claim"]] if number == 0 else ["", ""]
            cells.append([*name, part["metric"], effect, str(part["n_seeds"]), f"> {part['threshold']:g}", verdict])
    return markdown(cells)


def short_claims(rows: list[dict]) -> str:
    """Counts of the verdicts, and a row for each claim's first part."""
    cells = [["", "claim", "first measure", "effect (95% interval)", "seeds", "verdict"]]
    for row in rows:
        cells.append(
            [row["id"], row["claim"], row["metric"], effect_text(row), str(row["n_seeds"]), f"**{row['verdict']}**"]
        )
    return f"{counts(rows)}\n\n{markdown(cells)}"


def effect_text(row: dict) -> str:
    """A claim's first effect with its interval; "-" without a measurement."""
    if row["effect"] is None:
        return "-"
    bounds = "" if row["ci_low"] is None else f" ({row['ci_low']:+.1f} to {row['ci_high']:+.1f})"
    return f"{row['effect']:.2f}" if row["threshold"] == SHARE else f"{row['effect']:+.1f}{bounds}"


def beside_record(rows: list[dict], record: list[dict]) -> str:
    """For a terminal: each claim as found here, and as the repository's record has it."""
    recorded = {row["id"]: row for row in record}
    lines = []
    for row in rows:
        sides = {"here": row, "recorded": recorded.get(row["id"])}
        lines.append(f"{row['id']:4} {row['claim']}")
        lines += [
            f"{name:>11}: {side['verdict']:13} {effect_text(side):24} seeds: {side['n_seeds']}"
            for name, side in sides.items()
            if side
        ]
    return "\n".join(lines)


def counts(rows: list[dict]) -> str:
    found = {
        verdict: sum(row["verdict"] == verdict for row in rows)
        for verdict in ("holds", "does not hold", "undecided", "not run")
    }
    return ", ".join(f"{verdict}: {count}" for verdict, count in found.items()) + "."


def spread(values: Iterable[float], sign: str = "") -> str:
    """Mean and half the 95% interval, "-" without a measurement."""
    values = [value for value in values if np.isfinite(value)]
    if not values:
        return "-"
    mean, low, _ = interval(values)
    return f"{mean:{sign}.1f}" + (f" ± {mean - low:.1f}" if len(values) > 1 else "")


def arms_table(runs: Runs) -> str:
    """Accuracy at the end, how far asl lies above it, at equal tokens (of the arm that sampled least), and what was
    spent in all rounds."""
    least = min((spent(s, "tokens")[-1] for seeds in runs.values() for s in seeds.values()), default=0)
    head = [
        "arm",
        "seeds",
        "base",
        "final",
        "sd",
        "asl less this",
        "at equal tokens",
        "asl passes it after, 1000 tokens",
    ]
    cells = [head + [key.replace("_", " ") for key in BUDGET]]
    for arm, seeds in runs.items():
        finals = [final(s) for s in seeds.values()]
        sd = f"{np.std(finals, ddof=1):.1f}" if len(finals) > 1 else "-"
        equal = spread(np.interp(least, spent(s, "tokens"), accuracy(s)) for s in seeds.values())
        budget = [f"{np.mean([spent(s, key)[-1] for s in seeds.values()]):,.0f}" for key in BUDGET]
        less = "-" if arm == "asl" else spread(between("asl", arm, final)(runs))
        passed = [tokens_to(asl, np.mean(finals)) / 1000 for asl in runs.get("asl", {}).values()]
        passes = spread(passed) if arm != "asl" and np.isfinite(passed).all() else "-"
        cells.append(
            [
                arm,
                str(len(seeds)),
                spread(accuracy(s)[0] for s in seeds.values()),
                spread(finals),
                sd,
                less,
                equal,
                passes,
                *budget,
            ]
        )
    return markdown(cells)


def tokens_to(summary: dict, wanted: float) -> float:
    """Tokens after which a run first has this held-out accuracy, straight between rounds; NaN if it never has."""
    used = np.linspace(0, spent(summary, "tokens")[-1], 1001)
    reached = np.flatnonzero(np.interp(used, spent(summary, "tokens"), accuracy(summary)) >= wanted)
    return float(used[reached[0]]) if len(reached) else np.nan


ROUND_TABLES = {
    "Held-out accuracy, %": ("accuracy", "mean"),
    "GRM balanced accuracy, %": ("grm", "balanced_accuracy"),
    "GRM consistency, %": ("grm", "consistency"),
    "GRM: right answers accepted, %": ("grm", "by_kind", "right"),
    "GRM: intermediate entities rejected, %": ("grm", "by_kind", "intermediate"),
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


def seeds_table(runs: Runs) -> str:
    """By seed, what means over seeds hide: asl beside the frozen judge, and how far the judge's reward is off in asl's
    worst round."""
    cells = [
        [
            "seed",
            "asl: accuracy, %",
            "asl: judged / truly right",
            "asl: judge reward furthest from the truth",
            "frozen_grm: accuracy, %",
        ]
    ]
    cells[0].append("frozen_grm: judged / truly right")
    for seed in sorted(runs["asl"]):
        arms = [runs[arm].get(seed) for arm in ("asl", "frozen_grm") if arm in runs]
        off = judge_error(runs["asl"][seed])
        asl, *frozen = (
            [f"{final(s):.1f}", f"{judged_right(s)[-1]:.0f} / {truly_right(s)[-1]:.0f}"] if s else ["-", "-"]
            for s in arms
        )
        cells.append(
            [str(seed), *asl, f"{off[np.nanargmax(np.abs(off))]:+.1f}", *(frozen[0] if frozen else ["-", "-"])]
        )
    return markdown(cells)


def asl_sentence(runs: Runs) -> str:
    """What is said of asl over its seeds."""
    asl = list(runs["asl"].values())
    steps = np.mean([np.diff(accuracy(s)) for s in asl], axis=0)
    off = np.nanmean([judge_error(s)[1:] for s in asl], axis=0)
    gains = {
        "held-out accuracy": ("accuracy", "mean"),
        "the GRM's balanced accuracy": ("grm", "balanced_accuracy"),
        "its consistency": ("grm", "consistency"),
    }
    parts = [f"{name} {spread((gain(s, *keys) for s in asl), sign='+')}" for name, keys in gains.items()]
    parts += [f"tasks answerable on fixed prompts {spread((gain(s, 'pg_answerable') for s in asl), sign='+')}"]
    for name, by_round in {"held-out accuracy": steps, "judge reward less true accuracy": off}.items():
        parts.append(f"{name} by round {', '.join(f'{x:+.1f}' for x in by_round)}")
    head = f"Gains from the base to the end, points, mean over {len(asl)} seeds ± half the 95% interval"
    return f"{head}: {'; '.join(parts)}."


def catching_up(runs: Runs) -> str:
    """Search-R1 by its number of gold labels, and how far it lies above asl (paired by seed)."""
    cells = [["gold labels", "final accuracy, %", "less asl's, points"]]
    for arm in sorted((arm for arm in runs if arm.startswith("search_r1")), key=lambda arm: tasks_of(runs[arm])):
        cells.append(
            [
                str(tasks_of(runs[arm])),
                spread(final(s) for s in runs[arm].values()),
                spread(between(arm, "asl", final)(runs)),
            ]
        )
    return markdown(cells)


def tasks_of(seeds: dict[int, dict]) -> int:
    """Gold labels that a Search-R1 arm used in a round."""
    return max(row["gold_labels"] for summary in seeds.values() for row in summary["rounds"])


def rates_table(folder: Path) -> str:
    """Final accuracy on the validation split by arm and learning rate."""
    found: dict[str, dict[float, list[float]]] = {}
    for file in sorted(folder.glob("*.json")):
        summary = read_summary(file)
        found.setdefault(summary["arm"], {}).setdefault(summary["config"]["learning_rate"], []).append(final(summary))
    rates = sorted({rate for of_arm in found.values() for rate in of_arm})
    return markdown(
        [
            ["arm", *(f"{rate:g}" for rate in rates)],
            *([arm, *(spread(of_arm.get(rate, [])) for rate in rates)] for arm, of_arm in found.items()),
        ]
    )


def refresh(page: Path, blocks: dict[str, str]) -> str:
    """The page's text with what stands between `<!-- NAME -->` and `<!-- end -->` replaced."""
    text = page.read_text()
    for name, block in blocks.items():
        before, rest = text.split(f"<!-- {name} -->\n", 1)
        text = f"{before}<!-- {name} -->\n{block}\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}"
    return text


HEADLINE = {
    "asl": "ASL",
    "frozen_grm": "ASL, its judge frozen",
    "absolute_zero": "Absolute Zero",
}


def readme_blocks(runs: Runs) -> dict[str, str]:
    """What of the README is made of the runs' files."""
    curves = {name: [accuracy(s) for s in runs[arm].values()] for arm, name in HEADLINE.items()}
    rounds = ["", *(f"round {number}" for number in range(len(curves["ASL"][0])))]
    cells = [[f"{name} ({len(of)})", *(f"{x:.1f}" for x in np.mean(of, axis=0))] for name, of in curves.items()]
    return {"accuracy by round": markdown([rounds, *cells])}


def results_blocks(runs: Runs, rows: list[dict]) -> dict[str, str]:
    """What of the page RESULTS.md at the top is made of the runs' files."""
    return {"asl by round": markdown(table(list(runs["asl"].values()))), "claims": short_claims(rows)}


def results_text(runs: Runs, rows: list[dict], folder: Path) -> str:
    """The text of RESULTS.md."""
    parts = [
        "# Results",
        f"Made by `python -m reproduce.claims` from `runs/*.json`, not by hand; the runs by `{COMMAND}`. Effects are "
        "means over seeds with 95% t-intervals, paired by seed where arms are compared; a claim holds when the "
        "interval of each of its parts lies above the threshold.",
        "## Claims",
        counts(rows),
        claims_table(rows),
        "\n".join(f"- {row['id']}: {row['note']}" for row in rows if row["note"]),
    ]
    if "asl" in runs:
        parts += [
            "## asl, round by round",
            LEGEND,
            markdown(table(list(runs["asl"].values()))),
            asl_sentence(runs),
            seeds_table(runs),
        ]
    if runs:
        parts += [
            "## Arms",
            "Held-out exact match at temperature 1, mean over 1, 2 and 3 hops, %, ± half the 95% interval; sd: "
            "standard deviation of the final accuracy over seeds; asl less this: paired by seed. Budget: sums over all "
            "rounds of training. Gold labels: each round counts its own.",
            arms_table(runs),
        ]
        for title, keys in ROUND_TABLES.items():
            parts += [f"## {title}, by round", rounds_table(runs, keys)]
    if any(arm.startswith("search_r1") for arm in runs):
        parts += ["## Search-R1 by its gold labels", catching_up(runs)]
    if list((folder / "lr").glob("*.json")):
        parts += ["## Learning rates", "Final accuracy on the validation split, %.", rates_table(folder / "lr")]
    return "\n\n".join(part for part in parts if part) + "\n"
