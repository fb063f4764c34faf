"""The statistics of the league: ranks of the systems, which differences are real, how alike the orders are on different
bases, where each system wins and what breaks it. Of rows of league.json."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import rankdata, spearmanr

from reproduce import measures as m
from reproduce.effects import mean_over_seeds
from reproduce.phase_diagram import base_values
from reproduce.records import Runs
from reproduce.statistics import LEVEL, Estimate, estimate, holm, regress

BASE_MEASURES = {"judge": "grm.balanced_accuracy", "writer": "pg.right", "majority": "sampled.majority"}
"""What may break a system, as its base is before the loop, and where the base's measures have it."""


@dataclass(frozen=True)
class Table:
    """`gains` [systems, bases]: points, means over seeds. `incomplete`: systems that lack a base."""

    systems: tuple[str, ...]
    bases: tuple[str, ...]
    gains: np.ndarray
    incomplete: tuple[str, ...] = ()

    @property
    def ranks(self) -> np.ndarray:
        """[systems, bases]; 1 is the best, equal gains share the mean of their places."""
        return rankdata(-self.gains, axis=0)


def runs_of(rows: Iterable[dict]) -> Runs:
    """Rows by system and base, one for each seed."""
    runs: Runs = {}
    for row in rows:
        runs.setdefault(row["system"], {}).setdefault(row["base"], []).append(row)
    return runs


def table_of(rows: Iterable[dict], named: Collection[str] = ()) -> Table:
    """Of all bases that any of the named systems has (where there is none of them: that any system has); systems in the
    order of their rows."""
    runs = runs_of(rows)
    of = [found for system, found in runs.items() if system in named] or runs.values()
    bases = sorted({base for found in of for base in found})
    whole = [system for system, found in runs.items() if found.keys() >= set(bases)]
    gains = [[mean_over_seeds(runs[system][base], m.gain) for base in bases] for system in whole]
    shape = len(whole), len(bases)
    return Table(tuple(whole), tuple(bases), np.array(gains).reshape(shape), tuple(s for s in runs if s not in whole))


@dataclass(frozen=True)
class MeanRank:
    """A system's mean rank over bases with its 95% percentile interval, bases drawn anew."""

    system: str
    mean: float
    low: float
    high: float
    gain: Estimate


def mean_ranks(table: Table, draws: int = 2000, seed: int = 0) -> list[MeanRank]:
    """Best first."""
    ranks, n = table.ranks, len(table.bases)
    drawn = np.random.default_rng(seed).integers(n, size=(draws, n))
    low, high = np.quantile(ranks[:, drawn].mean(2), (LEVEL / 2, 1 - LEVEL / 2), axis=1)
    values = zip(table.systems, ranks.mean(1), low, high, map(estimate, table.gains), strict=True)
    return sorted((MeanRank(s, float(r), float(a), float(b), g) for s, r, a, b, g in values), key=lambda row: row.mean)


@dataclass(frozen=True)
class Difference:
    """Points of gain that one system is ahead of another, mean over bases."""

    ahead: str
    behind: str
    found: Estimate
    holm_p: float

    @property
    def is_real(self) -> bool:
        return self.holm_p < LEVEL


def differences(table: Table) -> list[Difference]:
    """All pairs of systems, the surest first; p corrected over all of them."""
    pairs = [(i, j) if table.gains[i].mean() >= table.gains[j].mean() else (j, i) for i, j in all_pairs(table.systems)]
    found = [estimate(table.gains[i] - table.gains[j]) for i, j in pairs]
    corrected = holm([one.p for one in found])
    rows = zip(pairs, found, corrected, strict=True)
    made = [Difference(table.systems[i], table.systems[j], one, p) for (i, j), one, p in rows]
    return sorted(made, key=lambda row: (row.holm_p, -row.found.mean))


def all_pairs(items: Sequence) -> list[tuple[int, int]]:
    return list(combinations(range(len(items)), 2))


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, of two orders of the same systems; NaN where one of them is constant or has fewer than three."""
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return np.nan
    return float(spearmanr(one, other).statistic)


def first_seeds(rows: Iterable[dict]) -> list[dict]:
    """Of each system and base the row with the lowest seed."""
    return [min(seeds, key=lambda row: row["seed"]) for found in runs_of(rows).values() for seeds in found.values()]


def base_correlations(table: Table) -> dict[tuple[str, str], float]:
    """Rank correlation of the systems' gains between each two bases."""
    columns = dict(zip(table.bases, table.gains.T, strict=True))
    return {(a, b): rank_correlation(columns[a], columns[b]) for a, b in combinations(table.bases, 2)}


def seed_correlations(rows: Iterable[dict]) -> dict[str, float]:
    """By base: rank correlation of the systems' gains between its first two seeds, over systems that have both."""
    runs, found = runs_of(rows), {}
    for base in sorted({base for of in runs.values() for base in of}):
        pairs = [of[base][:2] for of in runs.values() if len(of.get(base, [])) > 1]
        gains = np.array([[m.gain(row) for row in sorted(two, key=lambda row: row["seed"])] for two in pairs])
        found[base] = rank_correlation(*gains.T) if len(pairs) else np.nan
    return found


@dataclass(frozen=True)
class Winner:
    """`by`: points ahead of the second."""

    base: str
    system: str
    gain: float
    by: float


def winners(table: Table) -> list[Winner]:
    """The best system of each base; none where there are fewer than two systems."""
    if len(table.systems) < 2:
        return []
    found = []
    for base, column in zip(table.bases, table.gains.T, strict=True):
        first, second = np.argsort(-column, kind="stable")[:2]
        found.append(Winner(base, table.systems[first], float(column[first]), float(column[first] - column[second])))
    return found


@dataclass(frozen=True)
class Break:
    """Points of gain of a system for a standard deviation more of a base's measure, alone, with its 95% interval."""

    system: str
    measure: str
    slope: float
    low: float
    high: float
    n: int


def breaks(table: Table, bases: dict[str, dict]) -> list[Break]:
    """`bases`: what each is like before the loop. Measures that fewer than four bases have, or that are the same in
    all, are left out."""
    found = []
    for name, path in BASE_MEASURES.items():
        values = base_values(bases, path)
        known = [i for i, base in enumerate(table.bases) if base in values]
        x = np.array([values[table.bases[i]] for i in known])
        if len(x) < 4 or np.ptp(x) == 0:
            continue
        scaled = ((x - x.mean()) / x.std(ddof=1))[:, None]
        fits = [regress(scaled, gains[known]) for gains in table.gains]
        found += [Break(s, name, *fit.slope(0), len(x)) for s, fit in zip(table.systems, fits, strict=True)]
    return found
