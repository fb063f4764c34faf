"""The table of rounds, of one run or of several seeds, from their summaries."""

import numpy as np

from asl_min.tools.summary import dig

COLUMNS = {
    "1 hop": ("accuracy", "hop1"),
    "2 hops": ("accuracy", "hop2"),
    "3 hops": ("accuracy", "hop3"),
    "4 hops": ("accuracy", "hop4"),
    "mean": ("accuracy", "mean"),
    "greedy": ("accuracy_greedy", "mean"),
    "GRM": ("grm_balanced_accuracy",),
    "answerable": ("pg_answerable",),
    "drafts": ("phase", "drafts", "answerable"),
    "task right": ("pg_answer_right",),
    "judged": ("policy_judge_reward",),
    "true": ("policy_true_accuracy",),
}
"""Where a column finds its value in an entry of the summary."""
ACCURACY = tuple(COLUMNS)[:6]
"""The columns of held-out accuracy; the others measure judge, tasks and policy."""
COUNTS = {"tasks": "n_tasks", "episodes": "episodes", "seconds": "seconds"}
LONG_NAMES = {
    "mean": "mean over relations",
    "greedy": "greedy mean",
    "GRM": "GRM balanced accuracy",
    "answerable": "tasks answerable, fixed prompts",
    "drafts": "tasks answerable, the round's own",
    "task right": "kept tasks with right answer",
    "judged": "policy: judge reward",
    "true": "policy: true accuracy",
}
"""What a column is called where there is room for it."""
LEGEND = (
    "Percent. Held-out exact match at temperature 1 by hops, its mean over relations, and greedy; GRM: balanced "
    "accuracy on gold judgments; by the oracle: tasks answerable (for fixed meta prompts, and the round's own drafts), "
    "kept tasks with the right answer; the policy's answers judged correct and truly so. Round 0 is the base."
)


def values(summaries: list[dict], column: str) -> np.ndarray:
    """One column of `COLUMNS` as [seeds, rounds], in percent; NaN where it was not measured."""
    rounds = min(len(s["rounds"]) for s in summaries)
    found = [[dig(row, *COLUMNS[column]) for row in s["rounds"][:rounds]] for s in summaries]
    return 100 * np.array(found, dtype=float)


def measured(summaries: list[dict]) -> dict[str, np.ndarray]:
    """The columns that were measured in some round, as `values` gives them."""
    found = {column: values(summaries, column) for column in COLUMNS}
    return {column: of_seeds for column, of_seeds in found.items() if not np.isnan(of_seeds).all()}


def table(summaries: list[dict]) -> list[list[str]]:
    """Rows of cells, the header first: means over the summaries, and for several summaries the lowest and the highest
    value of the mean and the GRM. What was never measured, as on a corpus of one's own, has no column."""
    found = measured(summaries)
    rows = [["round", *found, *COUNTS]]
    for number in range(min(len(s["rounds"]) for s in summaries)):
        of_round = [s["rounds"][number] for s in summaries]
        counts = [f"{np.mean([row[key] for row in of_round]):.0f}" for key in COUNTS.values()]
        cells = [cell(column, of_seeds[:, number]) for column, of_seeds in found.items()]
        rows.append([str(number), *cells, *counts])
    return rows


def cell(column: str, seeds: np.ndarray) -> str:
    """The mean over seeds, "-" where it was not measured."""
    spread = f" ({seeds.min():.1f}-{seeds.max():.1f})" if len(seeds) > 1 and column in ("mean", "GRM") else ""
    return "-" if np.isnan(seeds).all() else f"{seeds.mean():.1f}{spread}"


def markdown(rows: list[list[str]]) -> str:
    """The rows as a Markdown table, the first one its header."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]])
