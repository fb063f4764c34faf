"""The headline figure: what each base gains, over its judge and its writer before the loop."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from reproduce.phase_diagram import diagram_rows, lift_offs, table_of
from reproduce.population import Population
from reproduce.statistics import regress

MAP = "RdBu"
JUDGE = "judge before the loop: balanced accuracy, %"
WRITER = "writer before the loop:\nown answers right, %"


def diagram_figure(population: Population) -> Figure:
    """Above: a point a base, coloured by gain, over judge and writer. Below: gain over the judge with the fitted line,
    its 95% interval and, dashed, where it crosses 0."""
    rows, arms = diagram_rows(population), population.headline()
    figure = Figure((1.6 + 3.2 * len(arms), 6.4), layout="constrained", facecolor="white")
    axes = figure.subplots(2, len(arms), squeeze=False, sharex=True, sharey="row")
    figure.suptitle("What a base gains from the loop, over what it is before")
    norm = symmetric(np.array([row["gain"] for row in rows if row["arm"] in arms and row["gain"] is not None]))
    crossings = {found.arm: found for found in lift_offs(rows, arms) if found.axis == "judge"}
    for (above, below), arm in zip(axes.T, arms, strict=True):
        scatter(above, *table_of(rows, arm, ("judge", "writer")), norm)
        above.set_title(arm)
        line(below, *table_of(rows, arm, ("judge",)))
        found = crossings.get(arm)
        if found and found.lowest <= found.at <= found.highest:
            below.axvline(found.at, color="0.3", linestyle="--", linewidth=1)
            below.annotate(f" {found.at:.0f}%", (found.at, 1), xycoords=("data", "axes fraction"), va="top")
        below.set_xlabel(JUDGE, fontsize=8)
    axes[0, 0].set_ylabel(WRITER, fontsize=8)
    axes[1, 0].set_ylabel("gain in held-out accuracy, points", fontsize=8)
    figure.colorbar(ScalarMappable(norm, MAP), ax=list(axes[0]), label="gain, points")
    return figure


def symmetric(gains: np.ndarray) -> TwoSlopeNorm:
    """Colours whose middle is a gain of 0, as far to either side."""
    widest = max(1.0, float(np.abs(gains).max(initial=0)))
    return TwoSlopeNorm(0, -widest, widest)


def scatter(axis: Axes, x: np.ndarray, gains: np.ndarray, norm: TwoSlopeNorm) -> None:
    axis.scatter(x[:, 0], x[:, 1], c=gains, cmap=MAP, norm=norm, s=45, edgecolors="0.3", linewidths=0.6)


def line(axis: Axes, x: np.ndarray, gains: np.ndarray) -> None:
    """Points, and the fitted line with its interval where there are bases enough."""
    axis.axhline(0, color="0.5", linewidth=0.8)
    axis.plot(x[:, 0], gains, "o", color="C0", markersize=4)
    fit = regress(x, gains) if len(x) else None
    if fit:
        at = np.linspace(x.min(), x.max(), 50)
        fitted, low, high = np.array([fit.interval(value) for value in at]).T
        axis.plot(at, fitted, color="C0", linewidth=1.5)
        axis.fill_between(at, low, high, color="C0", alpha=0.15, linewidth=0)
