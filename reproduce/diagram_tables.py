"""The tables of the phase diagram, and how numbers are written."""

from collections.abc import Iterable

import numpy as np

from asl_min.tools.table import markdown
from reproduce.phase_diagram import GOLD, LiftOff, correlations, diagram_rows, lift_offs, prediction_errors, slopes
from reproduce.population import Population
from reproduce.statistics import estimate

SHOWN = ("policy", "pass@16", "majority of 16", "judge", "writer")
"""Measures of a base that the gain is correlated with."""


def signed(value: float) -> str:
    return f"{value:+.1f}"


def spread(values: Iterable[float], sign: str = "", interval: bool = True) -> str:
    """Mean and, of two or more values, half the 95% interval; "-" without a measurement."""
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return "-"
    found = estimate(known)
    half = f" ± {found.high - found.mean:.1f}" if interval and found.n > 1 else ""
    return f"{found.mean:{sign}.1f}{half}"


def diagram_text(population: Population) -> str:
    """Its section of RESULTS.md; empty where the bases were not measured."""
    rows, arms = diagram_rows(population), population.headline()
    crossings, fitted, errors = lift_offs(rows, arms), slopes(rows, arms), prediction_errors(rows, arms)
    parts = ["## Phase diagram"]
    if any(row["judge"] is not None for row in rows):
        parts += [
            "What each base is like before the loop, %, and what it gains, points, by arm. Judge: balanced accuracy on "
            "gold judgments; writer: share of its own answers that are right; policy: one answer to each of 160 "
            "held-out questions (the runs' round 0 has 408, so it differs by a few points).",
            bases_table(rows, arms),
        ]
    if crossings:
        parts += [
            "From which value of the base's judge (balanced accuracy on gold judgments before the loop) or writer "
            "(share of its own answers that are right) on the line fitted to the gains lies above 0; 95% interval, "
            "bases drawn anew. A line is a mean: single bases may lose where it lies above 0. It is known only within "
            'the range of the bases: "whole range" where it lies above 0 in all of it, "nowhere" where it does not '
            "rise above 0 in it. A line that falls through 0 has a value up to which it lies above, and no interval. "
            "Where the slopes below are not told apart from 0, this is no evidence that judge or writer do not "
            "matter: their range may be too short.",
            markdown(
                [
                    ["arm", "of the base's", "mean gain above 0 from", "bases", "their range"],
                    *map(crossing_cells, crossings),
                ]
            ),
        ]
    if fitted:
        cells = [["arm", "measure of the base", "points of gain a standard deviation", "p", "bases"]]
        for row in fitted:
            slope = f"{signed(row.slope)} ({row.low:+.1f} to {row.high:+.1f})"
            cells.append([row.arm, row.measure, slope, f"{row.p:.2g}", str(row.n)])
        parts += ["Regression of the gain on the three together, each standardised:", markdown(cells)]
    correlated, of_final = (correlations(rows, population.arms(), SHOWN, measure) for measure in ("gain", "final"))
    if np.isfinite([*correlated.values()]).any():
        pairs = {arm: zip(found, of_final[arm], strict=True) for arm, found in correlated.items()}
        cells = [["arm", *SHOWN]]
        cells += [[arm, *("-" if np.isnan(r) else f"{r:+.2f} ({f:+.2f})" for r, f in of)] for arm, of in pairs.items()]
        parts += [
            "Correlation (Pearson) of the gain with what the base is like before the loop, in brackets that of the "
            "final accuracy. Exploratory: this table was added after some 40 runs had been seen. A gain is a final "
            "accuracy less a start, so where finals hardly depend on the base, all that goes with the start seems to "
            "explain the gain.",
            markdown(cells),
        ]
    if len(errors) > 1 and np.isfinite([error for found in errors.values() for error in found.values()]).any():
        parts += [
            "What predicts the gain of a base best: root mean square error, points, of a line fitted to the others. "
            "With so few bases the least of ten errors is partly luck. Where no error without labels is below that of "
            "the others' mean, nothing that a user can measure predicts the gain.",
            markdown([["predictor", *arms], *error_cells(errors, arms)]),
        ]
    return "\n\n".join(parts) if len(parts) > 1 else ""


def bases_table(rows: list[dict], arms: list[str]) -> str:
    """A row a base."""
    gains = {(row["base"], row["arm"]): row["gain"] for row in rows}
    bases = {row["base"]: row for row in rows}
    cells = [["base", *GOLD, *arms]]
    for name, row in sorted(bases.items()):
        measures = ["-" if row[measure] is None else f"{row[measure]:.0f}" for measure in GOLD]
        found = [gains.get((name, arm)) for arm in arms]
        cells.append([name, *measures, *("-" if gain is None else signed(gain) for gain in found)])
    return markdown(cells)


def crossing_cells(row: LiftOff) -> list[str]:
    ends = row.lowest, row.highest
    interval = f"{percent(row.at, *ends)} ({percent(row.low, *ends)} to {percent(row.high, *ends)})"
    falling = row.up_to is not None and f"falls: above 0 up to {row.up_to:.0f}%"
    return [row.arm, row.axis, falling or interval, str(row.n), f"{row.lowest:.0f} to {row.highest:.0f}%"]


def percent(value: float, lowest: float, highest: float) -> str:
    """Within the range of the bases; beyond it, whether the line lies above 0 for all of them or for none."""
    return "whole range" if value <= lowest else "nowhere" if value > highest else f"{value:.0f}%"


def error_cells(errors: dict[str, dict[str, float]], arms: Iterable[str]) -> list[list[str]]:
    return [
        [predictor, *("-" if np.isnan(found[arm]) else f"{found[arm]:.1f}" for arm in arms)]
        for predictor, found in errors.items()
    ]
