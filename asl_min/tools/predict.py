"""What a base will gain from the loop, predicted from what can be measured of it without a label: for each arm a line
fitted to the bases of a phase diagram (`phase_diagram.json`, made by reproduce.claims), with a new base's interval.

The bases of the diagram are tiny models in the embedded world. What the line says of another model, or another corpus,
is an extrapolation, which nobody has checked; `outside` names the measures that lie beyond every base.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from asl_min.corpus import refuse_no_file
from asl_min.metrics.regression import left_out, regress
from asl_min.run.errors import InputError

PREDICTORS = {
    "vote agreement": "vote_agreement",
    "gate share": "gate_share",
    "attempt agreement": "attempt_agreement",
}
"""A row's measures, in percent, and their names in `probe.label_free`, from 0 to 1."""


@dataclass(frozen=True)
class Prediction:
    """Points of held-out accuracy that an arm is expected to gain, with the 95% interval of a single base.

    The rest says how far to trust it, on `bases` bases, each predicted from all others: `rank_correlation` of predicted
    and measured gains (None where one of them is constant), and their mean absolute difference `error`, points, beside
    that of the other bases' plain mean.
    """

    arm: str
    gain: float
    low: float
    high: float
    outside: list[str]
    bases: int
    rank_correlation: float | None
    error: float
    error_of_mean: float


def read_diagram(file: Path) -> list[dict]:
    """The rows of a phase diagram, one a base and arm. Raises `InputError` where the file is missing or is none."""
    refuse_no_file(file)
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: not JSON: {error}") from None
    keys = {"base", "arm", "gain", *PREDICTORS}
    if not isinstance(rows, list) or not all(isinstance(row, dict) and keys <= row.keys() for row in rows):
        raise InputError(f"{file}: expected a list of rows with {', '.join(sorted(keys))}")
    return rows


def predictions(rows: list[dict], measures: dict[str, float | None]) -> list[Prediction]:
    """One for each arm that enough bases were measured for, in the order of the rows; none where a measure is
    missing."""
    at = [measures[name] for name in PREDICTORS.values()]
    if None in at:
        return []
    arms = dict.fromkeys(row["arm"] for row in rows)
    found = [predicted(arm, *table(rows, arm), 100 * np.array(at)) for arm in arms]
    return [prediction for prediction in found if prediction]


def table(rows: list[dict], arm: str) -> tuple[np.ndarray, np.ndarray]:
    """An arm's bases that have every measure: their values [n, 3], percent, and gains [n], points."""
    known = [r for r in rows if r["arm"] == arm and None not in (r["gain"], *(r[name] for name in PREDICTORS))]
    x = np.array([[row[name] for name in PREDICTORS] for row in known], float).reshape(len(known), len(PREDICTORS))
    return x, np.array([row["gain"] for row in known], float)


def predicted(arm: str, x: np.ndarray, gains: np.ndarray, at: np.ndarray) -> Prediction | None:
    """The prediction for a base with the measures `at` [3]; None where the fit is not determined, with all bases or
    without one."""
    fit, others, means = regress(x, gains), left_out(x, gains), left_out(x[:, :0], gains)
    if fit is None or others is None:
        return None
    ranges = zip(PREDICTORS, at, x.min(0), x.max(0), strict=True)
    outside = [name for name, value, lowest, highest in ranges if not lowest <= value <= highest]
    varied = np.ptp(others) > 0 and np.ptp(gains) > 0
    rank = float(spearmanr(others, gains).statistic) if varied else None
    errors = [float(np.abs(gains - found).mean()) for found in (others, means)]
    return Prediction(arm, *fit.prediction(*at), outside, len(gains), rank, *errors)
