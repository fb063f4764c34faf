"""The figures, one message each, from results/runs/*.json: PNG and SVG in results/figures/.

    python -m reproduce.figures [--results reproduce/results]

Lines are means over bases, bands 95% t-intervals over bases. A figure is drawn if one of its arms was run.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    results = argument("--results", type=Path, metavar="DIR", help="default: reproduce/results")
    start("reproduce.figures", __doc__, results)

from argparse import Namespace
from collections.abc import Callable

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asl_min.run import terminal
from asl_min.tools.figures import STYLE
from reproduce import measures as m
from reproduce.diagram_figure import diagram_figure
from reproduce.population import Population, load
from reproduce.records import RESULTS
from reproduce.statistics import estimate
from reproduce.tables import base_curves

ROUND, ACCURACY = "round (0 = base model)", "held-out accuracy, %"
COLOURS = tuple(f"C{number}" for number in range(10))
LINES = ("-", "--", ":")


def look(population: Population, arm: str) -> dict[str, str]:
    """An arm's colour and kind of line, the same in all figures."""
    number = list(population.design.arms).index(arm)
    return {"color": COLOURS[number % 10], "linestyle": LINES[number // 10 % 3], "marker": "o", "markersize": 3}


def draw(axis: Axes, population: Population, arm: str, measure: Callable[[dict], np.ndarray], at: str = "") -> None:
    """An arm's mean over bases with its band, over rounds or over a budget (`at`, mean over all runs)."""
    curves = base_curves(population.runs, arm, measure)
    known = [number for number in range(curves.shape[1]) if np.isfinite(curves[:, number]).any()]
    found = [estimate(column[np.isfinite(column)]) for column in curves.T[known]]
    x = base_curves(population.runs, arm, lambda s: m.spent(s, at)).mean(0)[known] if at else known
    style = look(population, arm)
    axis.plot(x, [f.mean for f in found], label=f"{arm} ({len(curves)})", **style)
    if len(curves) > 2:
        axis.fill_between(x, [f.low for f in found], [f.high for f in found], color=style["color"], alpha=0.12, lw=0)


def panels(rows: int, columns: int, title: str, **shared: bool) -> tuple[Figure, np.ndarray]:
    """A white figure, which reads on light and dark pages alike, and its axes [rows, columns]."""
    figure = Figure((1 + 3.4 * columns, 0.8 + 3 * rows), layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    figure.suptitle(title)
    return figure, axes


def labelled(axis: Axes, title: str = "", x: str = ROUND, y: str = "") -> None:
    axis.set(title=title, xlabel=x, ylabel=y)
    if x == ROUND:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def legend(figure: Figure, axis: Axes, columns: int = 4) -> None:
    """Below all panels, where it covers no line."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def rounds_figure(population: Population) -> Figure:
    """The modes of ASL and the arm beside them, then all other arms."""
    figure, ((left, right),) = panels(1, 2, "Held-out accuracy by round, mean over bases", sharey=True)
    headline = population.headline()
    for arm in population.arms():
        draw(left if arm in headline else right, population, arm, m.accuracy)
    labelled(left, "Modes of ASL, Absolute Zero grounded", y=ACCURACY)
    labelled(right, "Other systems and controls")
    for axis in (left, right):
        axis.legend(fontsize=6, ncols=2, frameon=False, title="arm (bases)", title_fontsize=6)
    return figure


def bases_figure(population: Population) -> Figure:
    """One panel a base, the arms of the phase diagram in each."""
    arms = population.headline()
    bases = sorted({base for arm in arms for base in population.runs[arm]})
    columns = min(4, len(bases))
    rows = -(-len(bases) // columns)
    figure, axes = panels(rows, columns, "Held-out accuracy by round on each base", sharex=True, sharey=True)
    for axis, base in zip(axes.flat, bases, strict=False):
        for arm in (arm for arm in arms if base in population.runs[arm]):
            curves = [m.accuracy(s) for s in population.runs[arm][base]]
            length = min(map(len, curves))
            style = look(population, arm)
            axis.plot(np.mean([curve[:length] for curve in curves], 0), label=arm, **style)
        labelled(axis, base, y=ACCURACY if axis in axes[:, 0] else "")
    for axis in axes.flat[len(bases) :]:
        axis.set_visible(False)
    legend(figure, axes.flat[0])
    return figure


def budgets_figure(population: Population) -> Figure:
    """Accuracy over each of what is spent."""
    figure, axes = panels(1, len(m.BUDGETS), "Held-out accuracy over what was spent, mean over bases", sharey=True)
    systems = ("frozen_grm", "absolute_zero", "r_zero", "search_r1_64")
    arms = [*population.headline(), *(arm for arm in systems if arm in population.runs)]
    for axis, budget in zip(axes[0], m.BUDGETS, strict=True):
        for arm in arms:
            draw(axis, population, arm, m.accuracy, at=budget)
        labelled(axis, x=budget.replace("_", " "), y=ACCURACY if axis is axes[0, 0] else "")
    legend(figure, axes[0, 0])
    return figure


def hacking_figure(population: Population) -> Figure:
    """What the loop pays and what the oracle says, with the GRM frozen and trained."""
    figure, (axes,) = panels(1, 3, "What the loop pays and what is true, with the GRM trained and frozen")
    shown: dict[str, Callable[[dict], np.ndarray]] = {
        "Policy's answers: judged right less right": m.judge_error,
        "Rewarded tasks whose own answer is right": lambda s: m.curve(s, *m.SOUND),
        "Held-out accuracy": m.accuracy,
    }
    for axis, (title, measure) in zip(axes, shown.items(), strict=True):
        for arm in (arm for arm in (population.primary, "frozen_grm") if arm in population.runs):
            draw(axis, population, arm, measure)
        labelled(axis, title, y="points" if measure is m.judge_error else "%")
    axes[0].axhline(0, color="0.5", linewidth=0.8)
    legend(figure, axes[0])
    return figure


FIGURES: dict[str, Callable[[Population], Figure]] = {
    "phase_diagram": diagram_figure,
    "rounds": rounds_figure,
    "bases": bases_figure,
    "budgets": budgets_figure,
    "hacking": hacking_figure,
}


def drawable(population: Population) -> list[str]:
    """The figures of which there is something to draw."""
    needs_frozen = {"hacking"} if "frozen_grm" not in population.runs else set()
    needs_headline = set() if population.headline() else {"phase_diagram", "bases"}
    needs_bases = set() if population.bases else {"phase_diagram"}
    return [name for name in FIGURES if name not in needs_frozen | needs_headline | needs_bases]


def main(args: Namespace) -> None:
    results = args.results or RESULTS
    population, folder = load(results), results / "figures"
    names = drawable(population)
    if not args.dry_run:
        folder.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(STYLE):
            for name in names:
                figure = FIGURES[name](population)
                figure.savefig(folder / f"{name}.png", dpi=120)
                figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    files = [str(folder / f"{name}.png") for name in names]
    terminal.tell("\n".join(files), files=files)
