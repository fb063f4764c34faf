"""The phase diagram of self-learning: what a base gains in each arm, over what the base is like before the loop.

Its rows (`phase_diagram.json`), the regression of the gain on judge, writer and policy, from how good a judge or a
writer on an arm lifts itself, and which measure of a base predicts the gain best.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from asl_min.tools.summary import dig
from reproduce import measures as m
from reproduce.effects import mean_over_seeds
from reproduce.population import Population
from reproduce.statistics import correlation, falls_at, left_out_error, lift_off_interval, regress

MEASURED = {
    "judge": "grm.balanced_accuracy",
    "judge consistency": "grm.consistency",
    "writer": "pg.right",
    "writer answerable": "pg.answerable",
    "policy": "accuracy.mean",
    "pass@16": "sampled.pass@16",
    "majority of 16": "sampled.majority",
    "vote agreement": "label_free.vote_agreement",
    "gate share": "label_free.gate_share",
    "attempt agreement": "label_free.attempt_agreement",
}
"""What a row says of the base, and where its measures have it."""
GOLD = ("judge", "writer", "policy")
LABEL_FREE = ("vote agreement", "gate share", "attempt agreement")
AXES = ("judge", "writer")
PREDICTORS: dict[str, tuple[str, ...]] = {
    "nothing (the other bases' mean)": (),
    **{f"{name} (no labels)": (name,) for name in LABEL_FREE},
    "the three together (no labels)": LABEL_FREE,
    **{f"{name} (gold)": (name,) for name in GOLD},
    "the three together (gold)": GOLD,
    "pass@16 and majority of 16 (gold)": ("pass@16", "majority of 16"),
}
"""What is known of a base when its gain is predicted."""


def base_values(bases: dict[str, dict], path: str) -> dict[str, float]:
    """One measure of each base that has it, in percent. `path`: keys joined by dots."""
    found = {base: dig(measures, *path.split(".")) for base, measures in bases.items()}
    return {base: 100 * value for base, value in found.items() if value is not None}


def diagram_rows(population: Population) -> list[dict]:
    """A row a base and arm, in percent and points, means over seeds. A measure that the base lacks is None."""
    known = {name: base_values(population.bases, path) for name, path in MEASURED.items()}
    return [
        {"base": base, "arm": arm}
        | {name: rounded(values.get(base)) for name, values in known.items()}
        | {"gain": rounded(mean_over_seeds(runs, m.gain)), "final": rounded(mean_over_seeds(runs, m.final))}
        | {"seeds": len(runs)}
        for arm in population.arms()
        for base, runs in population.runs[arm].items()
    ]


def rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.5g}")


def table_of(rows: Iterable[dict], arm: str, names: Iterable[str], of: str = "gain") -> tuple[np.ndarray, np.ndarray]:
    """An arm's bases that have all these measures: their values [n, k] and gains, or what `of` names [n]."""
    names = tuple(names)
    kept = [r for r in rows if r["arm"] == arm and None not in (r[of], *(r[name] for name in names))]
    x = np.array([[row[name] for name in names] for row in kept]).reshape(len(kept), len(names))
    return x, np.array([row[of] for row in kept])


def tables(
    rows: list[dict], arms: Iterable[str], *choices: Sequence[str]
) -> Iterator[tuple[str, Sequence[str], np.ndarray, np.ndarray]]:
    """Arm, measures and `table_of` them, for each arm and each choice of measures that some base of the arm has."""
    for arm in arms:
        for names in choices:
            x, gains = table_of(rows, arm, names)
            if len(gains):
                yield arm, names, x, gains


@dataclass(frozen=True)
class LiftOff:
    """From which value of a base's judge (or writer) on the fitted gain of an arm is above 0, percent, with its 95%
    interval (bases drawn anew). Infinite: from the worst on (-inf), or for none (inf). `up_to`: where a line that falls
    crosses 0 within the bases' range, else None. `lowest` and `highest`: that range, outside of which the line is not
    known."""

    arm: str
    axis: str
    at: float
    low: float
    high: float
    lowest: float
    highest: float
    n: int
    up_to: float | None = None


def lift_offs(rows: list[dict], arms: Iterable[str]) -> list[LiftOff]:
    found = []
    for arm, (axis,), x, gains in tables(rows, arms, *([axis] for axis in AXES)):
        if crossing := lift_off_interval(x[:, 0], gains):
            ends = float(x.min()), float(x.max())
            found.append(LiftOff(arm, axis, *crossing, *ends, len(gains), falls_at(x[:, 0], gains)))
    return found


@dataclass(frozen=True)
class Slope:
    """Points of gain for a standard deviation more of a measure, the two others as they are, with its 95% interval and
    p."""

    arm: str
    measure: str
    slope: float
    low: float
    high: float
    p: float
    n: int


def slopes(rows: list[dict], arms: Iterable[str]) -> list[Slope]:
    """Ordinary least squares of the gain on judge, writer and policy together, each in standard deviations."""
    found = []
    for arm, names, x, gains in tables(rows, arms, GOLD):
        spread = x.std(axis=0, ddof=1) if len(x) > 1 else np.zeros(len(names))
        if spread.min() > 0 and (fit := regress((x - x.mean(0)) / spread, gains)):
            found += [Slope(arm, name, *fit.slope(i), float(fit.p[i + 1]), len(x)) for i, name in enumerate(names)]
    return found


def correlations(
    rows: list[dict], arms: Iterable[str], names: Sequence[str], of: str = "gain"
) -> dict[str, list[float]]:
    """By arm Pearson's correlation of the gain, or of the "final" accuracy, with each of these measures of the base;
    NaN where it is not defined."""
    tables = {arm: [table_of(rows, arm, (name,), of) for name in names] for arm in arms}
    return {arm: [correlation(x[:, 0], gains) for x, gains in found] for arm, found in tables.items()}


def prediction_errors(rows: list[dict], arms: Iterable[str]) -> dict[str, dict[str, float]]:
    """By predictor and arm: root mean square error, points, of the gain of a base predicted from all other bases. An
    arm's predictors are compared on the same bases: those with all measures that any base has. NaN where these are too
    few; predictors that no base has are left out."""
    names = {name for of_predictor in PREDICTORS.values() for name in of_predictor}
    known = sorted(name for name in names if any(row[name] is not None for row in rows))
    tables, found = {arm: table_of(rows, arm, known) for arm in arms}, {}
    for predictor, needed in PREDICTORS.items():
        if set(needed) <= set(known):
            columns = [known.index(name) for name in needed]
            found[predictor] = {arm: left_out_error(x[:, columns], gains) for arm, (x, gains) in tables.items()}
    return found
