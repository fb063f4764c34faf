"""The tables of the results, as Markdown: claims, audits, arms, budgets, rounds."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from asl_min.tools.table import markdown
from reproduce import measures as m
from reproduce.diagram_tables import signed, spread
from reproduce.effects import equal_budget, mean_over_seeds
from reproduce.phase_diagram import base_values
from reproduce.population import Population
from reproduce.records import Runs, by_arm, read_summaries
from reproduce.verdicts import WORST_FIRST

STRATA = {
    "all": ("accuracy", "mean"),
    "seen": ("accuracy", "seen"),
    "held-out phrasings": ("accuracy", "held_out_phrasing"),
    "held-out paths": ("accuracy", "held_out_path"),
} | {f"{hops} hop{'s' * (hops > 1)}": ("accuracy", f"hop{hops}") for hops in range(1, 5)}


def over_bases(runs: Runs, arm: str, measure: Callable[[dict], float]) -> list[float]:
    """The mean over seeds in each base that has the arm."""
    return [mean_over_seeds(summaries, measure) for summaries in runs.get(arm, {}).values()]


# --- claims and audits


def counts(rows: list[dict]) -> str:
    verdicts = [row["verdict"] for row in rows]
    return ", ".join(f"{verdict}: {verdicts.count(verdict)}" for verdict in reversed(WORST_FIRST)) + "."


def effect_text(row: dict) -> str:
    """An effect with its interval; "-" without a measurement."""
    if row["effect"] is None:
        return "-"
    return signed(row["effect"]) + (
        "" if row["ci_low"] is None else f" ({row['ci_low']:+.1f} to {row['ci_high']:+.1f})"
    )


def verdict_text(row: dict) -> str:
    """A verdict, and for "depends" on what; a provisional one while runs are missing."""
    found, late = row["depends_on"], row["provisional"] and row["verdict"] != "not run"
    verdict = f"provisional: {row['verdict']}" if late else row["verdict"]
    if not found:
        return verdict
    side = "from" if "from" in found else "up_to"
    return f"{verdict} on the {found['moderator']} (above {side.replace('_', ' ')} {found[side]:.0f}%)"


def size_text(row: dict) -> str:
    """Of how many bases, and of how many there were runs where that was more."""
    without = len(row["unmeasured"])
    return f"{row['n_bases']} of {row['n_bases'] + without}" if without else str(row["n_bases"])


def claims_table(rows: list[dict]) -> str:
    """A row for each claim, and one for each part where there are several."""
    cells = [["", "claim", "measure", "effect (95% interval)", "bases", "seeds", "Holm p", "verdict"]]
    for row in rows:
        p = "-" if row["holm_p"] is None else f"{row['holm_p']:.2g}"
        size = [size_text(row), str(row["n_seeds"])]
        decisive = [row["metric"], effect_text(row), *size, p, f"**{verdict_text(row)}**"]
        cells.append([row["id"], row["claim"], *decisive])
        parts = row["parts"] if len(row["parts"]) > 1 else []
        for name, group in {"part": parts, "shown": row["shown"]}.items():
            for part in group:
                size = [size_text(part), str(part["n_seeds"])]
                cells.append(["", f"({name})", part["metric"], effect_text(part), *size, "", verdict_text(part)])
    return markdown(cells)


def short_claims(rows: list[dict]) -> str:
    """Counts of the verdicts, and a row for each claim of the primary mode."""
    primary = [row for row in rows if row["family"] == "primary"]
    cells = [["", "claim", "measure", "effect (95% interval)", "bases", "Holm p", "verdict"]]
    for row in primary:
        p = "-" if row["holm_p"] is None else f"{row['holm_p']:.2g}"
        shown = [row["metric"], effect_text(row), size_text(row), p, f"**{verdict_text(row)}**{failed_part(row)}"]
        cells.append([row["id"], row["claim"], *shown])
    return f"{counts(primary)}\n\n{markdown(cells)}"


def failed_part(row: dict) -> str:
    """Of a claim that is not run in all its parts: one that does not hold already."""
    failed = [part for part in row["parts"] if part["verdict"] == "does not hold" and row["verdict"] == "not run"]
    return f"; {failed[0]['metric']}: {effect_text(failed[0])}, {verdict_text(failed[0])}" if failed else ""


def audits_table(rows: list[dict]) -> str:
    passed = {True: "passed", False: "**FAILED**", None: "not run"}
    cells = [["", "audit", "arm", "runs", "lowest", ""]]
    for row in rows:
        lowest = "-" if row["lowest"] is None else f"{row['lowest']:.3f}"
        cells.append([row["id"], row["audit"], row["arm"], str(row["runs"]), lowest, passed[row["passed"]]])
    return markdown(cells)


def beside_record(rows: list[dict], record: list[dict]) -> str:
    """For a terminal: each claim as found here, and as the repository's record has it."""
    recorded, lines = {row["id"]: row for row in record}, []
    for row in rows:
        sides = {"here": row, "recorded": recorded.get(row["id"])}
        lines.append(f"{row['id']:10} {row['claim']}")
        lines += [
            f"{name:>11}: {side['verdict']:13} {effect_text(side):24} bases: {side['n_bases']}, "
            f"runs missing: {side['missing_runs']}"
            for name, side in sides.items()
            if side
        ]
    return "\n".join(lines)


# --- arms


def arms_table(population: Population) -> str:
    """Final accuracy beside what the untrained base gives without training: greedy, pass@16 and the majority of 16."""
    runs, primary = population.runs, population.primary
    keys = {"base, greedy": "accuracy_greedy.mean", "pass@16": "sampled.pass@16", "majority of 16": "sampled.majority"}
    untrained = [base_values(population.bases, path) for path in keys.values()]
    cells = [["arm", "bases", "runs", "base", *keys, "final", "gain", f"{primary} less this"]]
    for arm in population.arms():
        bases = runs[arm]
        of_base = [spread(values[base] for base in bases if base in values) for values in untrained]
        pairs = [(runs[primary][base], bases[base]) for base in bases if base in runs.get(primary, {})]
        ahead = [mean_over_seeds(a, m.final) - mean_over_seeds(b, m.final) for a, b in pairs] if arm != primary else []
        first = spread(over_bases(runs, arm, lambda s: m.accuracy(s)[0]))
        found = [spread(over_bases(runs, arm, m.final)), spread(over_bases(runs, arm, m.gain), "+"), spread(ahead, "+")]
        cells.append([arm, str(len(bases)), str(sum(map(len, bases.values()))), first, *of_base, *found])
    return markdown(cells)


def strata_table(population: Population) -> str:
    """Final accuracy, and in brackets the gain, by kind of question."""
    cells = [["arm", "bases", *STRATA]]
    for arm in population.arms():
        row = []
        for keys in STRATA.values():
            last = over_bases(population.runs, arm, lambda s, keys=keys: m.curve(s, *keys)[-1])
            first = over_bases(population.runs, arm, lambda s, keys=keys: m.curve(s, *keys)[0])
            gained = spread(np.subtract(last, first), "+", interval=False)
            row.append(f"{spread(last, interval=False)} ({gained})" if np.isfinite(last).any() else "-")
        cells.append([arm, str(len(population.runs[arm])), *row])
    return markdown(cells)


def budgets_table(population: Population) -> str:
    """What a run spends, and mean accuracy up to the least that any run of the base spent, by each budget."""
    names = [budget.replace("_", " ") for budget in m.BUDGETS]
    cells = [
        [
            "arm",
            "bases",
            *names,
            "judge calls",
            "tasks a round",
            "gold labels",
            *(f"accuracy over equal {name}" for name in names),
        ]
    ]
    for arm in population.arms():
        summaries = [s for found in population.runs[arm].values() for s in found]
        used = [f"{np.mean([m.spent(s, budget)[-1] for s in summaries]):.0f}" for budget in m.BUDGETS]
        used.append(f"{np.mean([sum(row['judge_calls'] for row in s['rounds']) for s in summaries]):.0f}")
        used.append(f"{np.mean([row['n_tasks'] for s in summaries for row in s['rounds'][1:]]):.0f}")
        labels = max(row["gold_labels"] for summary in summaries for row in summary["rounds"])
        equal = []
        for budget in m.BUDGETS:
            found = []
            for base, seeds in population.runs[arm].items():
                beside = {name: of[base] for name, of in population.runs.items() if base in of}
                found.append(mean_over_seeds(seeds, equal_budget(beside, budget)))
            equal.append(spread(found))
        cells.append([arm, str(len(population.runs[arm])), *used, str(labels), *equal])
    return markdown(cells)


GREEDY, BASE = "greedy.json", "base"
"""What greedy.py writes, and what stands in a row of a base in place of an arm."""


def greedy_rows(folder: Path) -> list[dict]:
    """The rows of a results folder's greedy.json; none where it was never measured."""
    file = folder / GREEDY
    return json.loads(file.read_text()) if file.is_file() else []


def greedy_table(population: Population) -> str:
    """By arm, over the bases of which base and run are measured greedily: accuracy, %, and differences, points. Empty
    where there is none."""
    head = ["base", "base, greedy", "final", "final, greedy", "final less base, greedy", "both greedy"]
    cells = [["arm", "bases", *head]]
    known = {(row["base"], row["arm"], row["seed"]): row["accuracy"]["mean"] for row in greedy_rows(population.folder)}
    for arm in population.arms():
        found = []
        for base, summaries in population.runs[arm].items():
            own = [(s, known[base, arm, s["seed"]]) for s in summaries if (base, arm, s["seed"]) in known]
            if own and (base, BASE, 0) in known:
                curves = np.array([m.curve(s, "accuracy", "mean")[[0, -1]] for s, _ in own])
                found.append([*curves.mean(0), 100 * known[base, BASE, 0], 100 * np.mean([value for _, value in own])])
        if found:
            first, last, base, final = np.array(found).T
            shown = [spread(values, interval=False) for values in (first, base, last, final)]
            cells.append([arm, str(len(found)), *shown, spread(last - base, "+"), spread(final - base, "+")])
    return markdown(cells) if len(cells) > 1 else ""


def rounds_table(population: Population, keys: tuple[str, ...]) -> str:
    """Mean over bases by round; empty where it was never measured."""
    curves = {arm: arm_curve(population.runs, arm, *keys) for arm in population.arms()}
    measured = {arm: found for arm, found in curves.items() if found[1]}
    if not measured:
        return ""
    cells = [["arm", "bases", *map(str, range(max(len(curve) for curve, _ in measured.values())))]]
    for arm, (curve, n) in measured.items():
        cells.append([arm, str(n), *("-" if np.isnan(value) else f"{value:.1f}" for value in curve)])
    return markdown(cells)


def arm_curve(runs: Runs, arm: str, *keys: str) -> tuple[np.ndarray, int]:
    """Mean over bases of the mean over seeds, by round up to the shortest run, and of how many bases: those that have a
    value in each round that any base has, so that all rounds are of the same bases. NaN where no base has a value."""
    curves = base_curves(runs, arm, lambda s: m.curve(s, *keys))
    known = np.isfinite(curves)
    measured = known.any(0)
    whole = known[:, measured].all(1)
    if not measured.any() or not whole.any():
        return np.full(len(measured), np.nan), 0
    return np.where(measured, curves[whole].mean(0), np.nan), int(whole.sum())


def base_curves(runs: Runs, arm: str, measure: Callable[[dict], np.ndarray]) -> np.ndarray:
    """A measure by round, mean over the seeds of each base: [bases, rounds]. Rounds up to the shortest run's last."""
    found = [[measure(s) for s in summaries] for summaries in runs[arm].values()]
    length = min(len(values) for seeds in found for values in seeds)
    return np.array([np.mean([values[:length] for values in seeds], axis=0) for seeds in found])


def choices_table(folder: Path) -> str:
    """Final accuracy on validation questions by arm and variant of the settings, mean over the validation bases.
    `folder`: one folder of summaries for each variant."""
    variants = {found.name: by_arm(read_summaries(found).values()) for found in sorted(folder.glob("*/"))}
    arms = dict.fromkeys(arm for runs in variants.values() for arm in runs)
    rows = ([arm, *(spread(over_bases(runs, arm, m.final)) for runs in variants.values())] for arm in arms)
    return markdown([["arm", *variants], *rows])
