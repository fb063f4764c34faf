"""From effects to verdicts: of a part, on what it depends, of a claim, and of a family of claims.

Of a part, in this order: **depends**, **does not hold**, **holds**, **undecided**; **not run** without an effect.

"Depends" comes first. It says that the sign changes within the population: for some bases the effect lies above the
threshold, for others below. The average over such a population says nothing of a base, and where it comes out depends
on which bases were drawn, so neither "holds" nor "does not hold" may be read off it. It is asked strictly (a slope that
is significant after correction, and fitted effects on both sides within the middle 80% of the bases), since a steep
slope alone changes how much a claim holds, not whether.

A claim says that all its parts hold: it has the worst of their verdicts, and its p is the largest of theirs, which
needs no correction for the number of parts. Over the claims of a family p is corrected by Holm; a claim whose parts all
hold is undecided if that p is not below 0.05.
"""

from dataclasses import dataclass

import numpy as np

from reproduce.designs import Claim, Part
from reproduce.effects import effects, seeds, unmeasured
from reproduce.records import Runs
from reproduce.statistics import LEVEL, Estimate, estimate, holm, regress

WORST_FIRST = ("not run", "does not hold", "undecided", "depends", "holds")
PERCENTILES = (10, 90)
Moderators = dict[str, dict[str, float]]
"""A measure's value, in percent, by its name and by base."""


@dataclass(frozen=True)
class Dependence:
    """The effect changes sign where the moderator is `at`; `rising`: it lies above the threshold from there on, else up
    to there. `p`: of the slope, after Holm over the moderators."""

    moderator: str
    at: float
    rising: bool
    p: float


@dataclass(frozen=True)
class Finding:
    """A part's effect over bases and its verdict. `estimate` is None where it was not run; `unmeasured`: bases with
    runs and without an effect."""

    part: Part
    verdict: str
    estimate: Estimate | None = None
    n_seeds: int = 0
    dependence: Dependence | None = None
    unmeasured: tuple[str, ...] = ()

    @property
    def p(self) -> float:
        return self.estimate.p if self.estimate else np.nan

    @property
    def distance(self) -> float:
        """How far it is from failing: effect less threshold over half the interval's width."""
        if not self.estimate or not np.isfinite(self.estimate.low):
            return -np.inf
        half = max((self.estimate.high - self.estimate.low) / 2, 1e-12)
        return (self.estimate.mean - self.part.above) / half


@dataclass(frozen=True)
class Conclusion:
    claim: Claim
    verdict: str
    findings: list[Finding]
    shown: list[Finding]
    holm_p: float

    @property
    def decisive(self) -> Finding:
        """The part with the worst verdict; among equals the one furthest from holding."""
        return min(self.findings, key=lambda f: (WORST_FIRST.index(f.verdict), f.distance))


def dependence(found: dict[str, float], moderators: Moderators, threshold: float) -> Dependence | None:
    """On which moderator the sign of effect less threshold depends, the most significant one if there are several. Only
    bases with all moderators count; None where these are too few."""
    bases = [base for base in found if all(base in values for values in moderators.values())]
    if not moderators or not bases:
        return None
    x = np.array([[values[base] for values in moderators.values()] for base in bases])
    fit = regress(x, np.array([found[base] for base in bases]))
    if fit is None:
        return None
    center, candidates = x.mean(0), []
    for i, (name, p) in enumerate(zip(moderators, holm(fit.p[1:]), strict=True)):
        slope = fit.coefficients[i + 1]
        at_center = fit.coefficients[0] + center @ fit.coefficients[1:] - threshold
        ends = at_center + slope * (np.percentile(x[:, i], PERCENTILES) - center[i])
        if p < LEVEL and ends.min() < 0 < ends.max():
            crossing = center[i] - at_center / slope
            candidates.append(Dependence(name, float(crossing), bool(slope > 0), p))
    return min(candidates, key=lambda d: d.p, default=None)


def judge(part: Part, runs: Runs, moderators: Moderators) -> Finding:
    found, without = effects(part, runs), tuple(unmeasured(part, runs))
    if not found:
        return Finding(part, "not run", unmeasured=without)
    over_bases = estimate(list(found.values()), part.above)
    depends = dependence(found, moderators, part.above)
    if depends:
        verdict = "depends"
    elif over_bases.high < part.above:
        verdict = "does not hold"
    elif over_bases.p < LEVEL and over_bases.mean > part.above:
        verdict = "holds"
    else:
        verdict = "undecided"
    return Finding(part, verdict, over_bases, seeds(part, runs), depends, without)


def conclude(claims: list[Claim], runs: Runs, moderators: Moderators) -> list[Conclusion]:
    """The verdicts of a family of claims."""
    findings = [[judge(part, runs, moderators) for part in claim.parts] for claim in claims]
    corrected = holm([max(finding.p for finding in parts) if _all_run(parts) else np.nan for parts in findings])
    return [
        Conclusion(claim, _verdict(parts, p), parts, [judge(part, runs, moderators) for part in claim.shown], p)
        for claim, parts, p in zip(claims, findings, corrected, strict=True)
    ]


def _all_run(findings: list[Finding]) -> bool:
    return all(np.isfinite(finding.p) for finding in findings)


def _verdict(findings: list[Finding], p: float) -> str:
    worst = min((finding.verdict for finding in findings), key=WORST_FIRST.index)
    return "undecided" if worst == "holds" and p >= LEVEL else worst
