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

ROUND, ACCURACY, GAINED = "round (0 = base model)", "held-out accuracy, %", "gain over the base, points"
SYSTEMS = ("absolute_zero", "r_zero", "agent0", "dr_zero", "search_r1")
"""How the names of arms begin that are systems of others."""
COLOURS = [matplotlib.colormaps["tab20"].colors[i] for i in (*range(0, 20, 2), *range(1, 20, 2))]


def look(population: Population, arm: str) -> dict[str, object]:
    """An arm's colour and kind of line, the same in all figures."""
    number = list(population.design.arms).index(arm)
    return {
        "color": COLOURS[number % 20],
        "linestyle": ("-", "--", ":")[number // 10 % 3],
        "marker": "o",
        "markersize": 3,
    }


def gained(summary: dict) -> np.ndarray:
    """Held-out accuracy less that of the base, which differs more between bases than what they gain."""
    return m.accuracy(summary) - m.accuracy(summary)[0]


def draw(
    axis: Axes,
    population: Population,
    arm: str,
    measure: Callable[[dict], np.ndarray],
    at: str = "",
    band: bool = True,
) -> None:
    """An arm's mean over bases with its band, over rounds or over a budget (`at`, mean over bases)."""
    curves = base_curves(population.runs, arm, measure)
    known = [number for number in range(curves.shape[1]) if np.isfinite(curves[:, number]).any()]
    found = [estimate(column[np.isfinite(column)]) for column in curves.T[known]]
    x = base_curves(population.runs, arm, lambda s: m.spent(s, at)).mean(0)[known] if at else known
    style = look(population, arm)
    axis.plot(x, [f.mean for f in found], label=f"{arm} ({len(curves)})", **style)
    if band and len(curves) > 2:
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
    """The arms of the phase diagram, other systems, and controls; without bands where there are many arms."""
    figure, (axes,) = panels(1, 3, "Held-out accuracy less that of the base, by round, mean over bases", sharey=True)
    headline, others = population.headline(), [arm for arm in population.arms() if arm not in population.headline()]
    groups = {
        "Modes of ASL, Absolute Zero grounded": headline,
        "Other systems": [arm for arm in others if arm.startswith(SYSTEMS)],
        "Variants of ASL and controls": [arm for arm in others if not arm.startswith(SYSTEMS)],
    }
    for axis, (title, arms) in zip(axes, groups.items(), strict=True):
        for arm in arms:
            draw(axis, population, arm, gained, band=arm in headline)
        axis.axhline(0, color="0.5", linewidth=0.8)
        labelled(axis, title, y=GAINED if axis is axes[0] else "")
        if arms:
            axis.legend(
                fontsize=6, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False, handlelength=3
            )
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
    """Gain over each of what is spent."""
    title = "Held-out accuracy less that of the base over what was spent, mean over bases"
    figure, axes = panels(1, len(m.BUDGETS), title, sharey=True)
    systems = ("frozen_grm", "absolute_zero", "r_zero", "search_r1_64")
    arms = [*population.headline(), *(arm for arm in systems if arm in population.runs)]
    for axis, budget in zip(axes[0], m.BUDGETS, strict=True):
        for arm in arms:
            draw(axis, population, arm, gained, at=budget, band=arm in population.headline())
        labelled(axis, x=budget.replace("_", " "), y=GAINED if axis is axes[0, 0] else "")
    legend(figure, axes[0, 0])
    return figure


def hacking_figure(population: Population) -> Figure:
    """What the loop pays and what the oracle says, with the GRM frozen and trained."""
    figure, (axes,) = panels(1, 3, "What the loop pays and what is true, with the GRM trained and frozen")
    shown: dict[str, Callable[[dict], np.ndarray]] = {
        "Policy's answers: judged right less right": m.judge_error,
        "Rewarded tasks whose own answer is right": lambda s: m.curve(s, *m.SOUND),
        "Held-out accuracy less that of the base": gained,
    }
    for axis, (title, measure) in zip(axes, shown.items(), strict=True):
        for arm in (arm for arm in (population.primary, "frozen_grm") if arm in population.runs):
            draw(axis, population, arm, measure)
        labelled(axis, title, y="%" if "Rewarded" in title else "points")
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
