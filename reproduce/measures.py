"""What one run measured, from its summary: values by round, budgets, audits, and the numbers that claims compare.

Accuracies and shares are in percent, their differences in points.
"""

from collections.abc import Callable

import numpy as np

from asl_min.tools.summary import dig

REWARDED = ("phase", "kept", "answerable")
SOUND = ("phase", "kept", "right")
"""Of the tasks that earned a reward, by the oracle: the share that has an answer, and the share that can be solved as
posed, since the writer's own answer is right."""
BUDGETS = ("rollouts", "tokens", "seconds", "optimizer_steps")
"""What a round spends. Rollouts: all of them, judging included; tokens: sampled by all roles."""
SHARE = 0.999
"""What an audited share must reach: 1, up to rounding."""


def curve(summary: dict, *keys: str) -> np.ndarray:
    """One value a round from 0; NaN where it was not measured."""
    return 100 * np.array([dig(row, *keys) for row in summary["rounds"]], dtype=float)


def accuracy(summary: dict) -> np.ndarray:
    """Held-out exact match at temperature 1, averaged over relations."""
    return curve(summary, "accuracy", "mean")


def final(summary: dict) -> float:
    """Held-out accuracy of the last round."""
    return accuracy(summary)[-1]


def gain(summary: dict) -> float:
    """Held-out accuracy of the last round less that of the base."""
    return _rise(accuracy(summary))


def slope(summary: dict) -> float:
    """Least-squares slope of held-out accuracy, points a round."""
    return _slope(accuracy(summary))


def last_gain(summary: dict) -> float:
    """Held-out accuracy of the last round less that of the round before."""
    return _rise(accuracy(summary)[-2:])


def gain_after_first(summary: dict) -> float:
    """Held-out accuracy of the last round less that of round 1; NaN where there is no later one."""
    found = accuracy(summary)[1:]
    return _rise(found) if len(found) > 1 else np.nan


def harder(summary: dict) -> float:
    """How fast the round's tasks become harder: minus the slope of the base policy's accuracy on them, points a
    round."""
    return -_slope(curve(summary, "frozen", "accuracy"))


def judge_gain(summary: dict) -> float:
    """Balanced accuracy of the judge on gold judgments, last round less base."""
    return _rise(curve(summary, "grm", "balanced_accuracy"))


def judge_gain_on_wrong(summary: dict) -> float:
    """Accuracy of the judge on wrong answers, averaged over their kinds, last round less base."""
    kinds = dig(summary["rounds"][0], "grm", "by_kind") or {}
    gains = [_rise(curve(summary, "grm", "by_kind", kind)) for kind in kinds if not kind.startswith("right")]
    return float(np.mean(gains)) if gains else np.nan


def judge_error(summary: dict) -> np.ndarray:
    """By round: share of the policy's answers that the judge finds right, less the share that is right."""
    return curve(summary, "phase", "judge_reward") - curve(summary, "phase", "true_accuracy")


def overpaid(summary: dict) -> float:
    """Judge reward less true accuracy in the last round."""
    return judge_error(summary)[-1]


def overpaid_growth(summary: dict) -> float:
    """Judge reward less true accuracy, last round less round 1; NaN where there is no later one."""
    found = judge_error(summary)[1:]
    return _rise(found) if len(found) > 1 else np.nan


def sound_tasks(summary: dict) -> float:
    """Share of the rewarded tasks that can be solved as posed, mean of the last two rounds in which there are any."""
    found = curve(summary, *SOUND)[-2:]
    return float(np.nanmean(found)) if np.isfinite(found).any() else np.nan


MEASURES: dict[str, Callable[[dict], float]] = {
    measure.__name__: measure
    for measure in (
        final,
        gain,
        slope,
        last_gain,
        gain_after_first,
        harder,
        judge_gain,
        judge_gain_on_wrong,
        overpaid,
        overpaid_growth,
        sound_tasks,
    )
}
"""What a claim may ask of a single run, by name."""


def _rise(values: np.ndarray) -> float:
    """Last less first."""
    return float(values[-1] - values[0])


def _slope(values: np.ndarray) -> float:
    """Least squares, per round; NaN with fewer than two measured rounds."""
    known = np.flatnonzero(np.isfinite(values))
    return float(np.polyfit(known, values[known], 1)[0]) if len(known) > 1 else np.nan


# --- budgets


def spent(summary: dict, budget: str) -> np.ndarray:
    """Cumulated over the rounds, 0 for the base; NaN where it was not noted."""
    return np.cumsum([np.nan if row.get(budget) is None else row[budget] for row in summary["rounds"]])


def mean_accuracy(summary: dict, budget: str, upto: float) -> float:
    """Mean held-out accuracy from the base up to this much of a budget: the area under the accuracy curve, straight
    between rounds, divided by the budget."""
    used = np.linspace(0, upto, 101)
    return float(np.interp(used, spent(summary, budget), accuracy(summary)).mean()) if np.isfinite(upto) else np.nan


def tasks_used(summary: dict) -> float:
    """Tasks that a policy phase trained on, mean over rounds: those kept, `policy_tasks` at most."""
    most = summary["config"]["policy_tasks"] or np.inf
    return float(np.mean([min(row["n_tasks"], most) for row in summary["rounds"][1:]]))


# --- audits, shares from 0 to 1


def audited(summary: dict, *tables: str) -> float:
    """The lowest share in these tables of the trace over all rounds; 0 if a role had episodes and never used the tool
    in them. NaN where nothing was checked."""
    traces = [row["trace"] for row in summary["rounds"] if row["trace"]]
    if any(share == 0 for trace in traces for share in trace["tool_use"].values()):
        return 0.0
    shares = [share for trace in traces for name in tables for share in trace[name].values() if share is not None]
    return min(shares, default=np.nan)


def no_gold(summary: dict) -> float:
    """1 if no round was given a gold label, else 0."""
    return float(not any(row["gold_labels"] for row in summary["rounds"]))
