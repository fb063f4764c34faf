"""The effect of a part of a claim in each base: one number, the mean over the base's seeds, of one arm or of an arm
less others.
"""

from collections.abc import Callable

import numpy as np

from reproduce import measures as m
from reproduce.designs import Part
from reproduce.records import Runs

Arms = dict[str, list[dict]]
"""One base's summaries by arm."""


def effects(part: Part, runs: Runs) -> dict[str, float]:
    """By base, in percent or points. Bases that lack an arm of the part, or in which it was not measured, are left
    out."""
    return {base: value for base, value in _all_effects(part, runs).items() if np.isfinite(value)}


def unmeasured(part: Part, runs: Runs) -> list[str]:
    """The bases that have all arms of the part and no effect: there was nothing to measure, such as a round without a
    task that has an answer."""
    return [base for base, value in _all_effects(part, runs).items() if not np.isfinite(value)]


def _all_effects(part: Part, runs: Runs) -> dict[str, float]:
    arms = (*part.arms, *part.less)
    bases = [base for base in runs.get(arms[0], {}) if all(base in runs.get(arm, {}) for arm in arms)]
    return {base: _effect(part, {arm: runs[arm][base] for arm in arms}) for base in bases}


def seeds(part: Part, runs: Runs) -> int:
    """The fewest seeds that an arm of the part has in a base with an effect; 0 without any."""
    arms = (*part.arms, *part.less)
    return min((len(runs[arm][base]) for base in effects(part, runs) for arm in arms), default=0)


def _effect(part: Part, arms: Arms) -> float:
    if part.measure == "per_doubling":
        return per_doubling([arms[arm] for arm in part.arms])
    if part.measure.startswith("mean_over_"):
        measure = equal_budget(arms, part.measure.removeprefix("mean_over_"))
    else:
        measure = m.MEASURES[part.measure]
    values = {arm: mean_over_seeds(summaries, measure) for arm, summaries in arms.items()}
    best = np.max([values[arm] for arm in part.less]) if part.less else 0.0  # NaN where one of them is
    return float(values[part.arms[0]] - best)


def mean_over_seeds(summaries: list[dict], measure: Callable[[dict], float]) -> float:
    """Seeds in which it was not measured are left out; NaN if it was in none."""
    found = np.array([measure(summary) for summary in summaries], float)
    return float(np.nanmean(found)) if np.isfinite(found).any() else np.nan


def per_doubling(sizes: list[list[dict]]) -> float:
    """Slope of the final held-out accuracy over log2 of the tasks a round that the policy phase trained on, points per
    doubling. `sizes`: the summaries of each size, the smallest first; NaN where the last is not the larger."""
    tasks = [mean_over_seeds(summaries, m.tasks_used) for summaries in sizes]
    finals = [mean_over_seeds(summaries, m.final) for summaries in sizes]
    if min(tasks) <= 0 or tasks[-1] <= tasks[0]:
        return np.nan
    return float(np.polyfit(np.log2(tasks), finals, 1)[0])


def equal_budget(arms: Arms, budget: str) -> Callable[[dict], float]:
    """Mean held-out accuracy up to the least that any of these runs spent."""
    least = min(m.spent(summary, budget)[-1] for summaries in arms.values() for summary in summaries)
    return lambda summary: m.mean_accuracy(summary, budget, least)
