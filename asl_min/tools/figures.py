"""The figures of a report. Each is drawn once, by `draw`: PNG for REPORT.md, SVG for the HTML page.

Nothing here touches matplotlib's global state, and the same data give the same bytes.
"""

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from asl_min.model import ROLES
from asl_min.run import run_dir
from asl_min.tools.summary import step_rewards
from asl_min.tools.table import ACCURACY, LONG_NAMES, measured

COLOURS = ("#0b6fb8", "#c2500c", "#0a7d5d", "#1d2026", "#9a4fa8", "#8a6a00")
MARKERS = "osD^vP"
TEXT, GRID = "#5c626d", "#d9dade"
THEME = {colour: f"var(--c{i})" for i, colour in enumerate(COLOURS)} | {TEXT: "var(--soft)", GRID: "var(--line)"}
"""In the page a colour is a CSS variable, so that it follows the light or dark theme."""
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRID,
    "grid.color": GRID,
    "grid.alpha": 1.0,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.titlecolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "svg.fonttype": "none",
    "svg.hashsalt": "asl_min",
}
PANEL = (4.8, 3.6)
"""Width and height in inches."""
TITLES = {
    "prompt_generator": "Prompt Generator: reward by step",
    "reward_model": "GRM: share of labels matched, by step",
    "policy": "Policy: share judged correct, by step",
}


@dataclass(frozen=True)
class Line:
    """`x`, `y`, `low` and `high` have one value a point; `low` to `high` is shaded. `joined`: else points alone."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    joined: bool = True

    @property
    def words(self) -> str:
        """Its last value, or of points the lowest and the highest."""
        low, high = f"{min(self.y):.4g}", f"{max(self.y):.4g}"
        return f"{self.label} {self.y[-1]:.4g}" if self.joined or low == high else f"{self.label} {low} to {high}"


@dataclass(frozen=True)
class Panel:
    """One pair of axes. `top`: upper end of the y axis, None: as the lines need it."""

    title: str
    x: str
    y: str
    lines: list[Line]
    top: float | None = None

    @property
    def description(self) -> str:
        """The figure in words, for those who cannot see it."""
        values = "Last values" if self.lines[0].joined else "Values"
        return f"{self.title}. {values}: {', '.join(line.words for line in self.lines)}"


def round_panels(summaries: list[dict]) -> list[Panel]:
    """Accuracy by round; judge, tasks and policy by round. Panels of which nothing was measured are left out.

    Lines are means over the summaries, with the lowest and the highest seed around them. The mean accuracy of a single
    run has its 95% bootstrap interval instead.
    """
    found = measured(summaries)
    titles = {
        "Held-out accuracy by round": [column for column in found if column in ACCURACY],
        "Judge, tasks and policy by round": [column for column in found if column not in ACCURACY],
    }
    return [
        Panel(title, "round (0 = base model)", "%", [round_line(summaries, c, found[c]) for c in columns], 100)
        for title, columns in titles.items()
        if columns
    ]


def beside_panels(named: dict[str, dict]) -> list[Panel]:
    """The same measure of several runs, a panel each: held-out accuracy, judge, tasks and policy by round. `named`:
    summaries by the runs' names."""
    found = {name: measured([summary]) for name, summary in named.items()}
    columns = [
        c for c in ("mean", "GRM", "answerable", "judged", "true") if all(c in of_run for of_run in found.values())
    ]
    return [
        Panel(
            LONG_NAMES[column],
            "round (0 = base model)",
            "%",
            [
                replace(round_line([summary], column, found[name][column]), label=name)
                for name, summary in named.items()
            ],
            100,
        )
        for column in columns
    ]


def round_line(summaries: list[dict], column: str, found: np.ndarray) -> Line:
    """One column of the table of rounds; `found`: its values [seeds, rounds] in percent."""
    low, high = found.min(0), found.max(0)
    if len(summaries) == 1 and column == "mean":
        low, high = 100 * np.array([row["accuracy"]["interval"] for row in summaries[0]["rounds"]]).T
    return Line(LONG_NAMES.get(column, column), np.arange(found.shape[1]), found.mean(0), low, high)


def step_panels(run: Path) -> list[Panel]:
    """The reward by training step of each role, the rounds one after the other."""
    rounds = run_dir.read_config(run).rounds
    panels = [Panel(TITLES[role], "training step", "reward", step_lines(run, rounds, role)) for role in ROLES]
    return [panel for panel in panels if panel.lines]


def step_lines(run: Path, rounds: int, role: str) -> list[Line]:
    """A line for each round whose phase of this role has begun."""
    lines, start = [], 0
    for number in range(1, rounds + 1):
        rewards = step_rewards(run, number, role)
        if rewards:
            lines.append(Line(f"round {number}", range(start, start + len(rewards)), rewards))
        start += len(rewards)
    return lines


def draw(figure: Figure | SubFigure, panel: Panel) -> Axes:
    """Draw a panel as the only axes of a figure with constrained layout; the legend stands below, where it covers no
    line. Ticks are round numbers."""
    axis = figure.subplots()
    for i, line in enumerate(panel.lines):
        look = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        look |= {"markersize": 3.5, "linewidth": 1.5} if line.joined else {"markersize": 6, "linestyle": "none"}
        axis.plot(line.x, line.y, label=line.label, **look)
        if line.low is not None:
            axis.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.15, linewidth=0)
    axis.set(xlabel=panel.x, ylabel=panel.y)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    if min(np.nanmin(line.y) for line in panel.lines) >= 0:
        axis.set_ylim(0, panel.top)
        axis.set_ylim(0, axis.get_yticks()[-1])
    spacing = {"handlelength": 1.4, "handletextpad": 0.5, "columnspacing": 0.8, "borderpad": 0.2}
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False, **spacing)
    return axis


def side_by_side(panels: list[Panel]) -> Figure:
    """The panels with their titles in one figure, on white."""
    with matplotlib.rc_context(STYLE):
        figure = Figure((PANEL[0] * len(panels), PANEL[1]), layout="constrained", facecolor="white")
        for part, panel in zip(figure.subfigures(1, len(panels), squeeze=False)[0], panels, strict=True):
            draw(part, panel).set_title(panel.title)
    return figure


def svg(panel: Panel, name: str) -> str:
    """A panel without its title as an SVG element to stand in an HTML page, in the colours of the page's theme.

    `name` must be its own in the page: the ids inside begin with it.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(PANEL, layout="constrained")
        draw(figure, panel)
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    text = re.sub(r"<!--.*?-->|<style.*?</style>", "", buffer.getvalue(), flags=re.DOTALL)
    text = re.sub(r'id="|url\(#|xlink:href="#', lambda found: found[0].removeprefix("xlink:") + f"{name}-", text)
    for colour, variable in THEME.items():
        text = text.replace(colour, variable)
    words, view = html.escape(panel.description), re.search(r'viewBox="[^"]*"', text)[0]
    return re.sub(r".*?<svg.*?>", f'<svg role="img" aria-label="{words}" {view}>', text, count=1, flags=re.DOTALL)
