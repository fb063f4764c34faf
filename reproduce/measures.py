"""What claims, tables and figures read of the runs' summaries: loading, values by round, budgets, audits, intervals
over seeds."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from scipy import stats

from asl_min.corpus import refuse_no_file
from asl_min.run.errors import InputError
from asl_min.run.old_names import upgrade_summary
from asl_min.tools.summary import dig

RESULTS = Path(__file__).parent / "results"
GOLD_SIZES = (1, 4, 16, 64)
"""Gold labels of the Search-R1 arms."""
TASK_SIZES = ("data_4", "data_12", "data_36", "asl")
"""The arms that differ in how many tasks the policy phase trains on, fewest first."""
DRAFTS = ("phase", "drafts", "answerable")
REWARDED = ("phase", "kept", "answerable")
SOUND = ("phase", "kept", "right")
"""By the oracle: the solvable share of all well-formed drafts, that of those which earned a reward and became tasks,
and among the latter the share that can be solved as posed, since their own answer is right."""
Runs = dict[str, dict[int, dict]]
"""Summaries by arm and seed."""


def read_summary(file: Path) -> dict:
    """A run's summary.json with today's names. Raises `InputError` where the file is none."""
    refuse_no_file(file)
    try:
        summary = upgrade_summary(json.loads(file.read_text()))
    except ValueError as error:
        raise InputError(f"{file}: not JSON: {error}") from None
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{file}: not the summary of a run") from None
    rounds = summary["rounds"]
    if not isinstance(rounds, list) or not rounds or not all(isinstance(row, dict) for row in rounds):
        raise InputError(f"{file}: 'rounds' must be a list of objects that is not empty")
    if type(summary.get("seed")) is not int:
        raise InputError(f"{file}: 'seed' must be a whole number, found {summary.get('seed')!r}")
    return summary


def load_runs(folder: Path) -> Runs:
    """The summaries in a folder. Raises `InputError` where it holds none, or a file that is none."""
    runs: Runs = {}
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    for file in sorted(folder.glob("*.json")):
        summary = read_summary(file)
        runs.setdefault(summary["arm"], {})[summary["seed"]] = summary
    if not runs:
        raise InputError(f"{folder}: holds no summary of a run (*.json)")
    return runs


def interval(values: Iterable[float]) -> tuple[float, float, float]:
    """Mean and 95% t-interval over seeds; with one seed the interval is unbounded."""
    values = np.array(list(values), dtype=float)
    if len(values) < 2:
        return float(values.mean()), -np.inf, np.inf
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


# --- of one run; accuracies and shares in percent


def curve(summary: dict, *keys: str) -> np.ndarray:
    """One value a round from 0, in percent; NaN where it was not measured."""
    return 100 * np.array([dig(row, *keys) for row in summary["rounds"]], dtype=float)


def accuracy(summary: dict) -> np.ndarray:
    return curve(summary, "accuracy", "mean")


def final(summary: dict) -> float:
    return accuracy(summary)[-1]


def gain(summary: dict, *keys: str) -> float:
    """Last round less base."""
    found = curve(summary, *keys)
    return found[-1] - found[0]


def slope(values: np.ndarray) -> float:
    """Least squares, per round; NaN with fewer than two measured rounds."""
    known = np.flatnonzero(np.isfinite(values))
    return float(np.polyfit(known, values[known], 1)[0]) if len(known) > 1 else np.nan


def rise(summary: dict, *keys: str, since: int) -> float:
    """Last round less round `since`; NaN where there is no later one."""
    found = curve(summary, *keys)
    return found[-1] - found[since] if len(found) > since + 1 else np.nan


def late(summary: dict, *keys: str) -> float:
    """Mean of the last two rounds, since few tasks of one are rewarded where the gate lets few through; NaN where none
    is."""
    found = curve(summary, *keys)[-2:]
    return float(np.nanmean(found)) if np.isfinite(found).any() else np.nan


def judged_right(summary: dict) -> np.ndarray:
    """Judge reward: the share of a round's policy episodes that the judge finds right."""
    return curve(summary, "phase", "judge_reward")


def truly_right(summary: dict) -> np.ndarray:
    """The share that is right."""
    return curve(summary, "phase", "true_accuracy")


def judge_error(summary: dict) -> np.ndarray:
    """Judge reward less true accuracy by round."""
    return judged_right(summary) - truly_right(summary)


def overpaid(summary: dict) -> float:
    """The same in the last round."""
    return judge_error(summary)[-1]


def spent(summary: dict, key: str) -> np.ndarray:
    """Cumulated budget after each round, 0 for the base."""
    return np.cumsum([row[key] for row in summary["rounds"]])


def mean_over(summary: dict, key: str, budget: float) -> float:
    """Mean held-out accuracy from the base up to this much of a budget: the area under the accuracy curve, straight
    between rounds."""
    used = np.linspace(0, budget, 101)
    return float(np.interp(used, spent(summary, key), accuracy(summary)).mean())


def tasks_used(summary: dict) -> float:
    """Tasks that the policy phase trained on, mean over rounds: those kept, `policy_tasks` at most, and no more than
    its steps have places for."""
    config = summary["config"]
    places = config["policy_prompts"] * config["policy_max_steps"]
    return float(
        np.mean([min(row["n_tasks"], config["policy_tasks"] or places, places) for row in summary["rounds"][1:]])
    )


def audited(summary: dict, *tables: str) -> float:
    """The lowest share in these tables of the trace over all rounds; 0 if a role never used the tool."""
    traces = [row["trace"] for row in summary["rounds"][1:]]
    used = all(share for trace in traces for share in trace["tool_use"].values())
    return (
        min(share for trace in traces for name in tables for share in trace[name].values() if share is not None)
        if used
        else 0.0
    )


def no_gold(summary: dict) -> float:
    return float(not any(row["gold_labels"] for row in summary["rounds"]))


# --- over seeds


def of(arm: str, measure: Callable[[dict], float]) -> Callable[[Runs], list[float]]:
    """The measure for every seed of an arm."""
    return lambda runs: [measure(summary) for _, summary in sorted(runs.get(arm, {}).items())]


def between(arm: str, other: str, measure: Callable[[dict], float]) -> Callable[[Runs], list[float]]:
    """The measure of an arm less that of another one, for every seed that both have."""

    def effects(runs: Runs) -> list[float]:
        a, b = runs.get(arm, {}), runs.get(other, {})
        return [measure(a[seed]) - measure(b[seed]) for seed in sorted(a.keys() & b.keys())]

    return effects
