"""The real run's results as Markdown, made of the summaries of its runs.

Shares are in percent, searches in numbers. An interval after a value of one run is over questions, 95% bootstrap.
"""

from collections.abc import Callable, Sequence

import numpy as np

from asl_min.tools.summary import dig
from asl_min.tools.table import markdown
from reproduce import measures as m
from reproduce.designs import Selection, listed
from reproduce.diagram_tables import spread
from reproduce.rating_table import ratings_table
from reproduce.records import by_arm

ALL = "all"
"""The mean of the sets of questions."""
MEASURES = {"em": "Exact match", "sub_em": "SubEM", "f1": "F1", "searches": "Searches", "found_pages": "Pages found"}
"""Of answers, as `metrics.accuracy.by_set` names them."""


def headline_text(selection: Selection, ratings: Sequence[dict]) -> str:
    """What docs/real_run.md shows."""
    arms = arms_of(selection)
    if not arms:
        return "Not run yet."
    missing, more = listed(selection.missing), listed(selection.exploratory)
    parts = [
        f"{len(selection.named)} of {len(selection.named) + len(selection.missing)} named runs are there"
        + (f", so this is provisional. Missing: {missing}." if missing else "."),
        f"Not named before the runs, so exploratory: {more}." if more else "",
        "### Exact match by round",
        "Percent, mean of the sets of questions, test halves; round 0 is the model after its cold start. Gain: last "
        "round less round 0, points, with the 95% t-interval over seeds. Last: of one seed, with the interval over "
        "questions.",
        gains_table(arms),
        "### What else is measured, round 0 to the last",
        "Percent, and searches a question; means over seeds.",
        before_after_table(arms),
        "### Tasks, rated by reading",
        ratings_table(ratings) if ratings else "Not rated yet.",
        "### What a run spends",
        budgets_table(arms),
    ]
    return "\n\n".join(part for part in parts if part)


def before_text(found: dict) -> str:
    """What the model can do before the loop, from `reproduce.before_loop`'s file; parts that are not there yet are left
    out."""
    once, greedy, judge = found["accuracy"], found["accuracy_greedy"], found["grm"]
    rows = [
        ("exact match, temperature 1", with_interval([once["mean"], *once["interval"]], "em")),
        ("exact match, greedy", with_interval([greedy["mean"], *greedy["interval"]], "em")),
        *((f"- {name}", with_interval(of["em"], "em")) for name, of in greedy["sets"].items() if name != ALL),
        *(sampled_rows(found["sampled"]) if "sampled" in found else ()),
        ("judge's balanced accuracy on gold judgments", share(judge["balanced_accuracy"])),
        *((f"- right on: {kind.replace('_', ' ')}", share(value)) for kind, value in judge["by_kind"].items()),
        *(role_rows(found["roles"]) if "roles" in found else ()),
    ]
    return markdown([["before the loop", "%"], *map(list, rows)])


def sampled_rows(drawn: dict) -> list[tuple[str, str]]:
    some = f"{drawn['samples']} answers to each of {drawn['questions']} questions"
    return [
        (f"{some}: one", share(drawn["pass@1"])),
        (f"{some}: the best", share(drawn[f"pass@{drawn['samples']}"])),
        (f"{some}: the most frequent", share(drawn["majority"])),
    ]


def role_rows(roles: dict) -> list[tuple[str, str]]:
    return [
        (f"well-formed tasks, of {roles['asked']}", share(roles["well_formed"])),
        ("- whose votes pass the gate", share(roles["gate_share"])),
        ("- whose most frequent answer of all attempts is the writer's own", share(roles["own_majority"])),
        ("- of whose attempts a search brings the page that the task was made from", share(roles["source_found"])),
        ("agreement of two votes on one task", share(roles["vote_agreement"])),
    ]


def share(value: float | None) -> str:
    """In percent; "-" where it was not measured."""
    return "-" if value is None else f"{100 * value:.1f}"


def sets_text(selection: Selection) -> str:
    """A table for each measure: every run and set of questions, round by round, with intervals."""
    if not (arms := arms_of(selection)):
        return ""
    parts = [f"## {title} by set and round\n\n{sets_table(arms, measure)}" for measure, title in MEASURES.items()]
    return "\n\n".join(parts)


def arms_of(selection: Selection) -> dict[str, list[dict]]:
    """The named runs by arm, in the order of the file, seeds in theirs."""
    found = by_arm(selection.named.values())
    return {arm: [run for runs in found[arm].values() for run in runs] for _, arm, _ in selection.named}


def gains_table(arms: dict[str, list[dict]]) -> str:
    rounds = max(len(run["rounds"]) for runs in arms.values() for run in runs)
    cells = [["arm", "seeds", *(f"round {number}" for number in range(rounds)), "gain", "last"]]
    for arm, runs in arms.items():
        curves = [f"{value:.1f}" for value in np.mean([m.accuracy(run) for run in runs], 0)]
        last = with_interval(dig(runs[0]["rounds"][-1], "accuracy", "sets", ALL, "em"), "em") if len(runs) == 1 else "-"
        cells.append([arm, str(len(runs)), *curves, spread([m.gain(run) for run in runs], "+"), last])
    return markdown(cells)


def before_after_table(arms: dict[str, list[dict]]) -> str:
    """Means over seeds."""
    names = [name for name in MEASURES if name != "em"]
    found: dict[str, Callable[[dict], np.ndarray]] = {MEASURES[name]: curve_of(name) for name in names}
    found["Judge's balanced accuracy"] = lambda run: m.curve(run, "grm", "balanced_accuracy")
    found["Judged right in training, from round 1"] = lambda run: m.curve(run, "phase", "judge_reward")[1:]
    cells = [["arm", *found]]
    for arm, runs in arms.items():
        cells.append([arm, *(first_and_last([of(run) for run in runs]) for of in found.values())])
    return markdown(cells)


def first_and_last(curves: Sequence[np.ndarray]) -> str:
    """The means over curves at their first and last point, of the curves that have one there; "-" for a point that none
    has, and alone where there is neither."""
    ends = [[value for curve in curves if not np.isnan(value := curve[end])] for end in (0, -1)]
    first, last = (f"{np.mean(values):.1f}" if values else "-" for values in ends)
    return f"{first} → {last}" if any(ends) else "-"


def curve_of(measure: str) -> Callable[[dict], np.ndarray]:
    """Of the mean over sets, a value a round."""

    def curve(run: dict) -> np.ndarray:
        found = [dig(row, "accuracy", "sets", ALL, measure) or [np.nan] for row in run["rounds"]]
        return scale(measure) * np.array([value[0] for value in found])

    return curve


def sets_table(arms: dict[str, list[dict]], measure: str) -> str:
    runs = [(arm, run) for arm, own in arms.items() for run in own]
    cells = [["arm", "seed", "set", *(f"round {n}" for n in range(max(len(run["rounds"]) for _, run in runs)))]]
    for arm, run in runs:
        for name in dig(run["rounds"][0], "accuracy", "sets") or {}:
            found = [dig(row, "accuracy", "sets", name, measure) for row in run["rounds"]]
            cells.append([arm, str(run["seed"]), name, *(with_interval(value, measure) for value in found)])
    return markdown(cells)


def budgets_table(arms: dict[str, list[dict]]) -> str:
    """Means over seeds, of a whole run without its evaluations."""
    names = [*m.BUDGETS, "gold_labels"]
    cells = [["arm", *(name.replace("_", " ") for name in names)]]
    for arm, runs in arms.items():
        spent = [np.mean([m.spent(run, name)[-1] for run in runs]) for name in m.BUDGETS]
        labels = max(row["gold_labels"] for run in runs for row in run["rounds"])
        cells.append([arm, *(f"{value:.0f}" for value in spent), str(labels)])
    return markdown(cells)


def scale(measure: str) -> int:
    return 1 if measure == "searches" else 100


def with_interval(found: Sequence[float] | None, measure: str) -> str:
    """[value, low, high] as text; "-" where it was not measured."""
    if not found:
        return "-"
    value, low, high = (scale(measure) * part for part in found)
    return f"{value:.1f} ({low:.1f} to {high:.1f})"
