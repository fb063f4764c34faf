"""What no run can fail unless the code has an error: checks of the runs' files, reported apart from the claims."""

from collections.abc import Callable

import numpy as np

from reproduce import measures as m
from reproduce.population import Population

CHECKED: dict[str, tuple[str, Callable[[dict], float]]] = {
    "C1": (
        "closed loop, one tool: lowest share of logged tool responses that the one tool gives, and of rows traced",
        lambda summary: m.audited(summary, "tool_same", "lineage"),
    ),
    "C10": ("zero labels: 1 if no round was given a gold label", m.no_gold),
    "C16": (
        "rewards are what the mode says: lowest share of logged rewards that its formulas give",
        lambda summary: m.audited(summary, "rewards_explained"),
    ),
}
"""What is audited of the modes of ASL, by the claim that it belongs to."""


def audit(population: Population) -> list[dict]:
    """A row for each audit and mode: the lowest share over all runs, and whether it is 1."""
    rows = []
    for id, (text, measure) in CHECKED.items():
        for arm in population.design.modes.values():
            runs = [s for summaries in population.runs.get(arm, {}).values() for s in summaries]
            known = [share for share in map(measure, runs) if not np.isnan(share)]
            lowest = min(known, default=np.nan)
            passed = None if np.isnan(lowest) else bool(lowest > m.SHARE)
            row = {"id": id, "audit": text, "arm": arm, "runs": len(runs)}
            rows.append(row | {"lowest": None if passed is None else round(lowest, 4), "passed": passed})
    return rows
