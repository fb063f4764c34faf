"""The league's figures: learning curves over what was spent, ranks, and which system wins on which base."""

from collections.abc import Collection, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from asl_min.tools.figures import STYLE
from reproduce import measures as m
from reproduce.diagram_figure import JUDGE, WRITER
from reproduce.figures import COLOURS, GAINED, gained, labelled, legend, panels
from reproduce.league_ranks import Table, compared, mean_ranks, runs_of, winners
from reproduce.phase_diagram import base_values
from reproduce.records import Name
from reproduce.tables import base_curves

SHOWN = 8
"""Systems drawn in colour; the others are grey."""


def draw_all(rows: Sequence[dict], bases: dict[str, dict], folder: Path, named: Collection[Name] = ()) -> list[Path]:
    """PNG and SVG of each figure there is something to draw of; their files."""
    (rows, table), files = compared(rows, named), []
    if not table.systems:
        return []
    figures = {"curves": curves_figure(rows, table), "ranks": ranks_figure(table)}
    if where := winners_figure(table, bases):
        figures["winners"] = where
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name, figure in figures.items():
            files += [folder / f"{name}.{kind}" for kind in ("png", "svg")]
            figure.savefig(files[-2], dpi=120)
            figure.savefig(files[-1], metadata={"Date": None})
    return files


def colours(table: Table) -> dict[str, object]:
    """Of the systems with the best mean ranks, in their order; grey for the others."""
    order = [row.system for row in mean_ranks(table)]
    return {system: COLOURS[i] if i < SHOWN else "0.8" for i, system in enumerate(order)}


def curves_figure(rows: Sequence[dict], table: Table) -> Figure:
    """Gain over rollouts, tokens and seconds, mean over bases."""
    runs, colour = runs_of(rows), colours(table)
    budgets = m.BUDGETS[:3]
    figure, (axes,) = panels(1, len(budgets), "Held-out accuracy less that of the base, mean over bases", sharey=True)
    for axis, budget in zip(axes, budgets, strict=True):
        for system in reversed(list(colour)):
            x = base_curves(runs, system, lambda run, b=budget: m.spent(run, b)).mean(0)
            y = base_curves(runs, system, gained).mean(0)
            style = {"color": colour[system], "marker": "o", "markersize": 3, "label": system}
            axis.plot(x, y, **style)
        axis.axhline(0, color="0.5", linewidth=0.8)
        labelled(axis, x=budget, y=GAINED if axis is axes[0] else "")
    legend(figure, axes[0], columns=5)
    return figure


def ranks_figure(table: Table) -> Figure:
    """Mean rank of each system with its interval, the best on top."""
    order, colour = mean_ranks(table), colours(table)
    figure = Figure((6, 1 + 0.28 * len(order)), layout="constrained", facecolor="white")
    axis = figure.subplots()
    for place, row in enumerate(order):
        axis.plot([row.low, row.high], [place, place], color=colour[row.system], linewidth=2)
        axis.plot(row.mean, place, "o", color=colour[row.system])
    axis.set_yticks(range(len(order)), [row.system for row in order])
    axis.invert_yaxis()
    labelled(axis, x="mean rank over bases, 95% interval (1 is the best)")
    return figure


def winners_figure(table: Table, bases: dict[str, dict]) -> Figure | None:
    """The best system of each base, where the base lies on the axes of the phase diagram; None where no base was
    measured."""
    judge, writer = base_values(bases, "grm.balanced_accuracy"), base_values(bases, "pg.right")
    found = [row for row in winners(table) if row.base in judge.keys() & writer.keys()]
    if not found:
        return None
    colour = dict(zip(dict.fromkeys(row.system for row in found), COLOURS, strict=False))
    figure = Figure((6.5, 5), layout="constrained", facecolor="white")
    axis = figure.subplots()
    for row in found:
        x, y = judge[row.base], writer[row.base]
        axis.scatter(x, y, s=20 + 6 * max(row.gain, 0), color=colour[row.system], edgecolors="0.3", label=row.system)
        axis.annotate(f" {row.base}: {row.system}", (x, y), fontsize=7, va="bottom")
    axis.margins(0.2)
    labelled(axis, "The best system of each base (size: its gain)", x=JUDGE, y=WRITER)
    return figure
