"""The statistics behind claims and phase diagram. A value here is that of a base, which is a mean over its seeds; so
intervals are over bases, and no seed counts twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from asl_min.metrics.regression import LEVEL, left_out, regress, two_sided

__all__ = [
    "LEVEL",
    "Estimate",
    "correlation",
    "estimate",
    "falls_at",
    "holm",
    "left_out_error",
    "lift_off",
    "lift_off_interval",
    "regress",
]


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` bases with its 95% t-interval, and the two-sided p of "the mean is the threshold". With one base
    the interval is unbounded and p is NaN."""

    mean: float
    low: float
    high: float
    p: float
    n: int


def estimate(values: Sequence[float], threshold: float = 0.0) -> Estimate:
    values = np.asarray(values, float)
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Estimate(mean, -np.inf, np.inf, np.nan, n)
    error = values.std(ddof=1) / np.sqrt(n)
    half = float(stats.t.ppf(1 - LEVEL / 2, n - 1) * error)
    return Estimate(mean, mean - half, mean + half, two_sided(mean - threshold, error, n - 1), n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values in the order given: the k-th smallest of m is multiplied by m - k + 1, none is
    below a smaller one's, none above 1. NaN (not measured) counts as 1, so that a family is as large as it was
    announced."""
    given = np.nan_to_num(np.asarray(p_values, float), nan=1.0)
    adjusted, highest = np.empty(len(given)), 0.0
    for rank, index in enumerate(np.argsort(given, kind="stable")):
        highest = max(highest, min(1.0, given[index] * (len(given) - rank)))
        adjusted[index] = highest
    return adjusted.tolist()


def left_out_error(x: np.ndarray, y: np.ndarray) -> float:
    """Root mean square error of the prediction for each base from a line fitted to all others; `x` [n, k], where k = 0
    predicts their mean. NaN where the fit is not determined."""
    predicted = left_out(x, y)
    return np.nan if predicted is None else float(np.sqrt(np.mean(np.square(y - predicted))))


def line(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and constant of the line fitted to x and y [..., n], each [...]."""
    centered = x - x.mean(-1, keepdims=True)
    slope = (centered * y).sum(-1) / (centered**2).sum(-1)
    return slope, y.mean(-1) - slope * x.mean(-1)


def lift_off(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The x from which on the line fitted to x and y [..., n] lies above 0, [...]. Where it does not rise: -inf if it
    lies above 0 for all x that there are, else inf."""
    slope, constant = line(x, y)
    flat = np.where(constant + slope * x.max(-1) > 0, -np.inf, np.inf)
    rising = slope > 1e-12
    return np.where(rising, -constant / np.where(rising, slope, 1.0), flat)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; NaN where one of them is constant or has fewer than three."""
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return np.nan
    return float(np.corrcoef(one, other)[0, 1])


def falls_at(x: np.ndarray, y: np.ndarray) -> float | None:
    """Where the fitted line falls through 0 within the range of x; None where it does not."""
    slope, constant = line(x, y)
    if not constant + slope * x.min() > 0 > constant + slope * x.max():
        return None
    return float(-constant / slope)


def lift_off_interval(
    x: np.ndarray, y: np.ndarray, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float] | None:
    """`lift_off` with its 95% percentile interval, bases drawn with replacement; bounds may be infinite. None with
    fewer than four bases or a constant x."""
    if len(x) < 4 or np.ptp(x) == 0:
        return None
    drawn = np.random.default_rng(seed).integers(len(x), size=(draws, len(x)))
    drawn = drawn[np.ptp(x[drawn], axis=1) > 0]
    low, high = np.quantile(lift_off(x[drawn], y[drawn]), (LEVEL / 2, 1 - LEVEL / 2), method="nearest")
    return float(lift_off(x, y)), float(low), float(high)
