"""The statistics of the league: ranks of the systems, which differences are real, how alike the orders are on different
bases, where each system wins and what breaks it. Of rows of league.json."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, spearmanr, studentized_range

from reproduce import measures as m
from reproduce.effects import mean_over_seeds
from reproduce.phase_diagram import base_values
from reproduce.records import Name, Runs
from reproduce.statistics import LEVEL, Estimate, estimate, regress

BASE_MEASURES = {"judge": "grm.balanced_accuracy", "writer": "pg.right", "majority": "sampled.majority"}
"""What may break a system, as its base is before the loop, and where the base's measures have it."""


@dataclass(frozen=True)
class Table:
    """`gains` [systems, bases]: points, means over seeds. `incomplete`: systems that lack a run or a base."""

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


def table_of(rows: Iterable[dict], named: Collection[Name] = ()) -> Table:
    """Of the named runs, on all bases that they name; a system that lacks one of its runs is incomplete. Without names:
    of all rows, on all bases that any system has, whose systems need one run on each."""
    known = {name_of_row(row): row for row in rows}
    names = [name for name in named if name in known] if named else list(known)
    runs, bases = runs_of(known[name] for name in names), sorted({base for base, _, _ in named or known})
    lack = {arm for base, arm, seed in named if (base, arm, seed) not in known}
    whole = [system for system, found in runs.items() if system not in lack and found.keys() >= set(bases)]
    gains = [gains_of(runs[system], bases) for system in whole]
    shape = len(whole), len(bases)
    return Table(tuple(whole), tuple(bases), np.array(gains).reshape(shape), tuple(s for s in runs if s not in whole))


def compared(rows: Sequence[dict], named: Collection[Name]) -> tuple[list[dict], Table]:
    """The rows that are compared, the named ones where there are any, else all, and their table; while no system has
    all of its named runs, of what there is."""
    own = [row for row in rows if name_of_row(row) in named] or list(rows)
    whole = table_of(own, named)
    return own, whole if whole.systems else table_of(own)


def name_of_row(row: dict) -> Name:
    return row["base"], row["system"], row["seed"]


def gains_of(found: dict[str, list[dict]], bases: Iterable[str]) -> list[float]:
    """A system's gain on each base, mean over seeds."""
    return [mean_over_seeds(found[base], m.gain) for base in bases]


def place(table: Table, gains: Sequence[float]) -> float:
    """The mean rank that a system with these gains, one a base, would have among those of the table."""
    ahead = (table.gains > gains).sum(0) + (table.gains == gains).sum(0) / 2
    return float(1 + ahead.mean())


@dataclass(frozen=True)
class MeanRank:
    """A system's mean rank over bases with its 95% percentile interval, bases drawn anew; of few bases too narrow."""

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
    """Points of gain that one system is ahead of another, mean over bases, with the t-interval of these two alone. `p`:
    of Tukey's test, which allows for all pairs."""

    ahead: str
    behind: str
    found: Estimate
    p: float

    @property
    def is_real(self) -> bool:
        return self.p < LEVEL


def differences(table: Table, systems: int = 0) -> list[Difference]:
    """All pairs of systems, the surest first. `systems`: how many were announced, where more than there are."""
    pairs = [(i, j) if table.gains[i].mean() >= table.gains[j].mean() else (j, i) for i, j in all_pairs(table.systems)]
    p = tukey(table.gains, pairs, max(systems, len(table.systems)))
    made = [
        Difference(table.systems[i], table.systems[j], estimate(table.gains[i] - table.gains[j]), float(found))
        for (i, j), found in zip(pairs, p, strict=True)
    ]
    return sorted(made, key=lambda row: (row.p, -row.found.mean))


def tukey(gains: np.ndarray, pairs: Sequence[tuple[int, int]], systems: int) -> np.ndarray:
    """p of the difference of two systems' means, [pairs], from gains [systems, bases] as a two-way layout: a gain is an
    effect of the system, one of the base, and a residual whose spread is the same for all. NaN with fewer than two
    bases. `systems`: how many are compared in all."""
    n, bases = gains.shape
    if not pairs or bases < 2:
        return np.full(len(pairs), np.nan)
    means, freedom = gains.mean(1), (n - 1) * (bases - 1)
    residuals = gains - means[:, None] - gains.mean(0) + gains.mean()
    error = np.sqrt(max(np.square(residuals).sum() / freedom, 1e-12) / bases)
    apart = np.array([abs(means[i] - means[j]) for i, j in pairs])
    return studentized_range.sf(apart / error, systems, freedom)


@dataclass(frozen=True)
class Agreement:
    """Kendall's W of the bases' orders of the systems, 0 to 1, and the p of Friedman's test that all orders are
    chance."""

    w: float
    p: float


def agreement(table: Table) -> Agreement | None:
    """None with fewer than three systems or two bases."""
    n, bases = table.gains.shape
    if n < 3 or bases < 2:
        return None
    found = friedmanchisquare(*table.gains)
    return Agreement(float(found.statistic / (bases * (n - 1))), float(found.pvalue))


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
