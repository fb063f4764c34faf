"""The league's results as Markdown, made of the rows of league.json."""

from collections.abc import Callable, Sequence

import numpy as np

from asl_min import recipes
from asl_min.config import load_config
from asl_min.episode import Task
from asl_min.tools.table import markdown
from reproduce import measures as m
from reproduce.designs import League
from reproduce.diagram_tables import signed, spread
from reproduce.effects import equal_budget, mean_over_seeds
from reproduce.jobs import ROOT
from reproduce.league_ranks import (
    Table,
    base_correlations,
    breaks,
    differences,
    first_seeds,
    mean_ranks,
    runs_of,
    seed_correlations,
    table_of,
    winners,
)


def paid_by(system: str) -> str:
    """What says that the policy is right, found by asking the recipe for its key. Raises `InputError` where there is no
    such arm."""
    recipe = recipes.load(load_config(ROOT / "configs" / "arms" / f"{system}.yaml"))
    asked = Task("q", "own", answers=("most", "most"), golden_answers=("gold",))
    key = recipe.policy_key(asked, ["most", "most"])
    return {None: "judge", "own": "task's own answer", "most": "majority", "gold": "gold"}[key and key[0]]


def results_text(rows: Sequence[dict], bases: dict[str, dict], design: League) -> str:
    """Everything that the rows say; `bases`: what each base is like before the loop."""
    table, named = table_of(rows, design.arms), [row for row in rows if row["system"] in design.arms]
    exploratory = [system for system in runs_of(rows) if system not in design.arms]
    parts = [
        f"{len(rows)} runs of {len(runs_of(rows))} systems on {len(table.bases)} bases, {design.budget}, judging "
        "included. Points and percent; ± and brackets are 95% intervals over bases.",
        f"Not ranked, since they lack a base: {', '.join(table.incomplete)}." if table.incomplete else "",
        f"Not named before the runs, so exploratory: {', '.join(exploratory)}. They have a rank and are in no test of "
        "differences."
        if exploratory
        else "",
        "### Ranks",
        ranks_table(rows, table),
        "### Which differences are real",
        differences_text(table_of(named or rows)),
        "### On equal budgets",
        "What a run spends, and mean held-out accuracy, %, up to the least that any run on its base spent.",
        budgets_table(rows),
        "### Where each wins",
        winners_table(table, bases),
        "### What breaks each",
        "Sound tasks: share of the rewarded tasks that can be solved as posed, %; overpaid: share of the policy's "
        "answers that are paid for less the share that is right, points; both at the end of the run. Then points of "
        "gain for a standard deviation more of the base's judge, writer or majority (of 16 answers), each alone.",
        breaks_table(rows, table, bases),
        "### Does the order hold on another base?",
        correlation_text(rows, table_of(first_seeds(rows), design.arms)),
    ]
    return "\n\n".join(part for part in parts if part)


def ranks_table(rows: Sequence[dict], table: Table) -> str:
    """A row a system, the best first."""
    runs = runs_of(rows)
    cells = [["system", "mean rank", "gain", "final", "the policy is paid by", "gold labels", "runs", "learning rate"]]
    for row in mean_ranks(table):
        own = [run for found in runs[row.system].values() for run in found]
        finals = [mean_over_seeds(found, m.final) for found in runs[row.system].values()]
        rank = f"{row.mean:.1f} ({row.low:.1f} to {row.high:.1f})"
        facts = [paid_by(row.system), str(max(run["gold_labels"] for run in own)), str(len(own))]
        rates = sorted({f"{run['learning_rate']:.1e}" for run in own})
        gains = spread(table.gains[table.systems.index(row.system)], "+")
        cells.append([row.system, rank, gains, spread(finals), *facts, ", ".join(rates)])
    return markdown(cells)


def differences_text(table: Table, shown: int = 40) -> str:
    """The pairs whose difference is real after Holm."""
    found = differences(table)
    real = [row for row in found if row.is_real]
    head = f"{len(real)} of {len(found)} pairs, after Holm's correction over all of them."
    if not real:
        return head
    cells = [["ahead", "behind", "points", "Holm p"]]
    for row in real[:shown]:
        points = f"{signed(row.found.mean)} ({row.found.low:+.1f} to {row.found.high:+.1f})"
        cells.append([row.ahead, row.behind, points, f"{row.holm_p:.2g}"])
    more = f"\n\nAnd {len(real) - shown} more." if len(real) > shown else ""
    return f"{head}\n\n{markdown(cells)}{more}"


def budgets_table(rows: Sequence[dict]) -> str:
    runs = runs_of(rows)
    names = [budget.replace("_", " ") for budget in m.BUDGETS]
    cells = [["system", *names, *(f"accuracy over equal {name}" for name in names)]]
    for system, found in runs.items():
        own = [run for seeds in found.values() for run in seeds]
        used = [f"{np.mean([run[budget] for run in own]):.0f}" for budget in m.BUDGETS]
        equal = []
        for budget in m.BUDGETS:
            beside = {base: {name: of[base] for name, of in runs.items() if base in of} for base in found}
            values = [mean_over_seeds(seeds, equal_budget(beside[base], budget)) for base, seeds in found.items()]
            equal.append(spread(values))
        cells.append([system, *used, *equal])
    return markdown(cells)


def winners_table(table: Table, bases: dict[str, dict]) -> str:
    """A row a base, with its judge and its writer before the loop."""
    cells = [["base", "judge", "writer", "best system", "gain", "ahead of the second by"]]
    for row in winners(table):
        measures = bases.get(row.base, {})
        known = [measures.get("grm", {}).get("balanced_accuracy"), measures.get("pg", {}).get("right")]
        of_base = ["-" if value is None else f"{100 * value:.0f}" for value in known]
        cells.append([row.base, *of_base, row.system, signed(row.gain), f"{row.by:.1f}"])
    return markdown(cells)


def breaks_table(rows: Sequence[dict], table: Table, bases: dict[str, dict]) -> str:
    runs, found = runs_of(rows), {}
    for row in breaks(table, bases):
        found.setdefault(row.system, {})[row.measure] = f"{signed(row.slope)} ({row.low:+.1f} to {row.high:+.1f})"
    measures = list(dict.fromkeys(name for of in found.values() for name in of))
    cells = [["system", "the policy is paid by", "sound tasks", "overpaid", *measures]]
    for system in table.systems:
        seeds, slopes = runs[system].values(), [found.get(system, {}).get(name, "-") for name in measures]
        sound, overpaid = ([mean_over_seeds(own, noted(key)) for own in seeds] for key in ("sound_tasks", "overpaid"))
        cells.append([system, paid_by(system), spread(sound), spread(overpaid, "+"), *slopes])
    return markdown(cells)


def noted(key: str) -> Callable[[dict], float]:
    """A measure of a row; NaN where it was not measured."""
    return lambda row: np.nan if row[key] is None else row[key]


def correlation_text(rows: Sequence[dict], table: Table) -> str:
    """Spearman's rank correlation of the systems' gains, between bases and between seeds; both of single seeds, so that
    both are as noisy. `table`: of the first seeds."""
    between = {pair: value for pair, value in base_correlations(table).items() if np.isfinite(value)}
    seeds = [value for value in seed_correlations(rows).values() if np.isfinite(value)]
    if not between:
        return "Not known with so few systems or bases."
    least, most = min(between, key=between.get), max(between, key=between.get)
    text = (
        "Spearman's rank correlation of the systems' gains between two bases: "
        f"{np.mean(list(between.values())):.2f} in the mean of {len(between)} pairs, from {between[least]:.2f} "
        f"({' and '.join(least)}) to {between[most]:.2f} ({' and '.join(most)})."
    )
    return text + (f" Between two seeds on one base: {np.mean(seeds):.2f} in the mean." if seeds else "")
