"""This run in the phase diagram: what the bases gained in its arm, over their judge and their writer, and where this
run's own base lies."""

from pathlib import Path

from asl_min.tools.figures import Line, Panel

AXES = {
    "judge": "judge before the loop: balanced accuracy, %",
    "writer": "writer before the loop: own answers right, %",
}
"""A row's measures of the base, and what they are called."""


def diagram_panels(summary: dict, rows: list[dict]) -> list[Panel]:
    """A panel for judge and writer each: a point a base of `rows` (`predict.read_diagram`) in the arm of `summary`, and
    one for this run. None where that arm, the measures of the run's base or its gain are not known."""
    base, gain = Path(summary["config"]["base_model"]), gain_of(summary)
    rows = [row for row in rows if row["arm"] == summary["arm"] and None not in (row["gain"], *map(row.get, AXES))]
    own = next((row for row in rows if base.parts[-2:] == ("bases", row["base"])), None)
    if own is None or gain is None:
        return []
    gains = [row["gain"] for row in rows]
    return [
        Panel(
            f"Gain by {axis}: the bases of the phase diagram",
            name,
            "gain in held-out accuracy, points",
            [
                Line(f"bases in {summary['arm']}", [row[axis] for row in rows], gains, joined=False),
                Line(f"this run, base {own['base']}", [own[axis]], [gain], joined=False),
            ],
        )
        for axis, name in AXES.items()
    ]


def gain_of(summary: dict) -> float | None:
    """Points of held-out accuracy that the last round has more than the base; None where one was not measured."""
    found = [row["accuracy"]["mean"] if row["accuracy"] else None for row in summary["rounds"]]
    return None if len(found) < 2 or None in (found[0], found[-1]) else 100 * (found[-1] - found[0])
