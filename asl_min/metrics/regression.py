"""Ordinary least squares over few observations: fit, intervals, and how well each one follows from the others."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.05
"""Of every test; intervals cover 1 - LEVEL."""


@dataclass(frozen=True)
class Regression:
    """Ordinary least squares of y on k variables. `coefficients` and `p` [k + 1], the constant first; `covariance`
    [k + 1, k + 1] of the coefficients; `variance` of y around the fit; `freedom`: degrees of freedom."""

    coefficients: np.ndarray
    covariance: np.ndarray
    p: np.ndarray
    variance: float
    freedom: int

    def interval(self, *at: float) -> tuple[float, float, float]:
        """The fitted mean at a point of the k variables, and its 95% interval."""
        row = np.array([1.0, *at])
        fitted = float(row @ self.coefficients)
        half = self._half(float(row @ self.covariance @ row))
        return fitted, fitted - half, fitted + half

    def prediction(self, *at: float) -> tuple[float, float, float]:
        """The fitted value at a point of the k variables, and the 95% interval of a new observation there."""
        row = np.array([1.0, *at])
        fitted = float(row @ self.coefficients)
        half = self._half(float(row @ self.covariance @ row) + self.variance)
        return fitted, fitted - half, fitted + half

    def slope(self, index: int) -> tuple[float, float, float]:
        """Slope of a variable (from 0) and its 95% interval."""
        found, half = float(self.coefficients[index + 1]), self._half(self.covariance[index + 1, index + 1])
        return found, found - half, found + half

    def _half(self, variance: float) -> float:
        return float(stats.t.ppf(1 - LEVEL / 2, self.freedom) * np.sqrt(max(variance, 0.0)))


def regress(x: np.ndarray, y: np.ndarray) -> Regression | None:
    """`x` [n, k], `y` [n]. None where fewer than two degrees of freedom are left or the variables cannot be told
    apart."""
    n, k = x.shape
    design = np.column_stack([np.ones(n), x])
    if n < k + 3 or np.linalg.matrix_rank(design) < k + 1:
        return None
    coefficients = np.linalg.lstsq(design, y, rcond=None)[0]
    freedom = n - k - 1
    variance = float(np.sum((y - design @ coefficients) ** 2)) / freedom
    covariance = variance * np.linalg.inv(design.T @ design)
    errors = np.sqrt(np.diag(covariance))
    p = np.array([two_sided(c, e, freedom) for c, e in zip(coefficients, errors, strict=True)])
    return Regression(coefficients, covariance, p, variance, freedom)


def two_sided(distance: float, error: float, freedom: int) -> float:
    """p of a t-statistic of distance / error. Without any spread: 1 at distance 0, else 0."""
    if error < 1e-12:
        return float(abs(distance) < 1e-12)
    return float(2 * stats.t.sf(abs(distance) / error, freedom))


def left_out(x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """The prediction [n] of each observation from a line fitted to all others; `x` [n, k], where k = 0 predicts their
    mean; `y` [n]. None where a fit is not determined."""
    design, predicted = np.column_stack([np.ones(len(y)), x]), np.empty(len(y))
    for place in range(len(y)):
        others = np.arange(len(y)) != place
        if np.linalg.matrix_rank(design[others]) < design.shape[1]:
            return None
        predicted[place] = design[place] @ np.linalg.lstsq(design[others], y[others], rcond=None)[0]
    return predicted if len(y) else None
