"""The league's results as Markdown, made of the rows of league.json."""

from collections.abc import Callable, Sequence

import numpy as np

from asl_min import recipes
from asl_min.config import load_config
from asl_min.episode import Task
from asl_min.tools.table import markdown
from reproduce import measures as m
from reproduce.designs import Budget, League
from reproduce.diagram_tables import signed, spread
from reproduce.effects import mean_over_seeds
from reproduce.jobs import ROOT
from reproduce.league_ranks import (
    Table,
    agreement,
    base_correlations,
    breaks,
    compared,
    differences,
    first_seeds,
    gains_of,
    mean_ranks,
    name_of_row,
    place,
    runs_of,
    seed_correlations,
    table_of,
    winners,
)


def paid_by(system: str) -> str:
    """What says that the policy is right, found by asking the recipe for its key; "-" for an arm that is not here."""
    if not (file := ROOT / "configs" / "arms" / f"{system}.yaml").is_file():
        return "-"
    recipe = recipes.load(load_config(file))
    asked = Task("q", "own", answers=("most", "most"), golden_answers=("gold",))
    key = recipe.policy_key(asked, ["most", "most"])
    return {None: "judge", "own": "task's own answer", "most": "majority", "gold": "gold"}.get(key and key[0], "a key")


def results_text(rows: Sequence[dict], bases: dict[str, dict], design: League) -> str:
    """Everything that the rows say; `bases`: what each base is like before the loop."""
    names = set(design.compared())
    there = sum(name_of_row(row) in names for row in rows)
    own, table = compared(rows, design.compared())
    others = [row for row in rows if name_of_row(row) not in names] if there else []
    parts = [
        f"{there} of {len(names)} named runs are there"
        + (", so this is provisional." if there < len(names) else ".")
        + f" {len(table.systems)} systems on {len(table.bases)} bases, {design.budget}, judging included. Points and "
        "percent; ± and brackets are 95% intervals over bases.",
        f"Not ranked, since runs of theirs are missing: {', '.join(table.incomplete)}." if table.incomplete else "",
        "### Ranks",
        ranks_table(own, table),
        exploratory_text(others, table),
        "### Which differences are real",
        differences_text(table, len(design.arms)),
        "### On equal budgets",
        "What a run spends, and mean held-out accuracy, %, over the announced rollouts, and over as many tokens, "
        "seconds and optimizer steps as the median run on its base spent. A run that ended earlier keeps its last "
        "accuracy. Seconds are of a machine that two runs share. Rounds without tasks: in which the policy learnt "
        "nothing.",
        budgets_table(own, design.budget),
        "### Where each wins",
        winners_table(table, bases),
        "### What breaks each",
        "Sound tasks: share of the rewarded tasks that can be solved as posed, %; overpaid: share of the policy's "
        "answers that are paid for less the share that is right, points; both at the end of the run. Then points of "
        "gain for a standard deviation more of the base's judge, writer or majority (of 16 answers), each alone.",
        breaks_table(own, table, bases),
        "### Does the order hold on another base?",
        correlation_text(own, table),
    ]
    return "\n\n".join(part for part in parts if part)


def ranks_table(rows: Sequence[dict], table: Table) -> str:
    """A row a system, the best first."""
    runs = runs_of(rows)
    cells = [["system", "mean rank", *RANK_FACTS]]
    for row in mean_ranks(table):
        rank = f"{row.mean:.1f} ({row.low:.1f} to {row.high:.1f})"
        cells.append([row.system, rank, *rank_facts(row.system, runs[row.system], table.bases)])
    return markdown(cells)


RANK_FACTS = ["gain", "final", "the policy is paid by", "gold labels", "runs", "learning rate"]


def rank_facts(system: str, found: dict[str, list[dict]], bases: Sequence[str]) -> list[str]:
    own = [run for base in bases for run in found[base]]
    finals = [mean_over_seeds(found[base], m.final) for base in bases]
    rates = sorted({f"{run['learning_rate']:.1e}" for run in own})
    facts = [paid_by(system), str(max(run["gold_labels"] for run in own)), str(len(own)), ", ".join(rates)]
    return [spread(gains_of(found, bases), "+"), spread(finals), *facts]


def exploratory_text(rows: Sequence[dict], table: Table) -> str:
    """Runs that were not named: their systems' places among the named ones, which they leave as they are."""
    if not rows or not table.systems:
        return ""
    cells = [["system", "would have mean rank", *RANK_FACTS]]
    for system, found in runs_of(rows).items():
        if found.keys() >= set(table.bases):
            rank = f"{place(table, gains_of(found, table.bases)):.1f}"
            cells.append([system, rank, *rank_facts(system, found, table.bases)])
    few = sorted({row["system"] for row in rows} - {row[0] for row in cells})
    text = "Not named before the runs, so exploratory, and in nothing else on this page"
    text += f"; without a run on each base: {', '.join(few)}." if few else ":"
    return f"{text}\n\n{markdown(cells)}" if len(cells) > 1 else text


def differences_text(table: Table, systems: int, shown: int = 40) -> str:
    """The pairs whose difference is real. `systems`: how many were announced."""
    found = differences(table, systems)
    real = [row for row in found if row.is_real]
    head = (
        f"{len(real)} of {len(found)} pairs, by Tukey's test over all pairs of {systems} systems. Brackets: the 95% "
        "interval of the two alone."
    )
    if not real:
        return head
    cells = [["ahead", "behind", "points", "p"]]
    for row in real[:shown]:
        points = f"{signed(row.found.mean)} ({row.found.low:+.1f} to {row.found.high:+.1f})"
        cells.append([row.ahead, row.behind, points, f"{row.p:.2g}"])
    more = f"\n\nAnd {len(real) - shown} more." if len(real) > shown else ""
    return f"{head}\n\n{markdown(cells)}{more}"


def budgets_table(rows: Sequence[dict], announced: Budget) -> str:
    runs = runs_of(rows)
    names = [budget.replace("_", " ") for budget in m.BUDGETS]
    equal = [f"accuracy over equal {name}" for name in names]
    cells = [["system", *names, "rounds without tasks", *equal]]
    for system, found in runs.items():
        own = [run for seeds in found.values() for run in seeds]
        used = [f"{np.mean([run[budget] for run in own]):.0f}" for budget in m.BUDGETS]
        values = [spread([over(budget, rows, seeds, announced) for seeds in found.values()]) for budget in m.BUDGETS]
        cells.append([system, *used, str(sum(empty_rounds(run) for run in own)), *values])
    return markdown(cells)


def over(budget: str, rows: Sequence[dict], seeds: list[dict], announced: Budget) -> float:
    """Mean held-out accuracy of a system's seeds on a base over the announced rollouts, or over what the median of all
    runs on the base spent of another budget."""
    limit = np.median([m.spent(row, budget)[-1] for row in rows if row["base"] == seeds[0]["base"]])
    if budget == "rollouts" and announced.round_rollouts:
        limit = announced.rounds * announced.round_rollouts
    return mean_over_seeds(seeds, lambda run: m.mean_accuracy(run, budget, float(limit)))


def empty_rounds(run: dict) -> int:
    """Rounds whose writer left the policy no task; 0 where that was not noted."""
    return sum(row.get("n_tasks") == 0 for row in run["rounds"][1:])


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
    """Do bases agree on the systems' order? Spearman's rank correlation between bases and between seeds is of single
    seeds, so that both are as noisy."""
    first = table_of(first_seeds(row for row in rows if row["system"] in table.systems))
    between = {pair: value for pair, value in base_correlations(first).items() if np.isfinite(value)}
    seeds, agreed = [value for value in seed_correlations(rows).values() if np.isfinite(value)], agreement(table)
    if not between or agreed is None:
        return "Not known with so few systems or bases."
    least, most = min(between, key=between.get), max(between, key=between.get)
    text = (
        f"Kendall's W of the bases' orders: {agreed.w:.2f} (0: chance, 1: the same on all; Friedman's p "
        f"{agreed.p:.2g}). Spearman's rank correlation of the systems' gains between two bases: "
        f"{np.mean(list(between.values())):.2f} in the mean of {len(between)} pairs, from {between[least]:.2f} "
        f"({' and '.join(least)}) to {between[most]:.2f} ({' and '.join(most)})."
    )
    return text + (f" Between two seeds on one base: {np.mean(seeds):.2f} in the mean." if seeds else "")
