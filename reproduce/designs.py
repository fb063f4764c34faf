"""What a preregistration holds: `preregistered.yaml`, the league's `preregistered_league.yaml` and the real run's
`preregistered_real.yaml`, read and checked; and which runs of those that are there it names."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from asl_min.config import Config, PositiveInt, read_yaml
from asl_min.corpus import refuse_no_file
from asl_min.run.errors import InputError
from reproduce.jobs import config_of
from reproduce.measures import BUDGETS, MEASURES
from reproduce.records import Name, run_name

FILE, LEAGUE, REAL = (Path(__file__).parent / f"preregistered{name}.yaml" for name in ("", "_league", "_real"))
MODE = "asl"
"""What a claim calls the mode of ASL that it is asked of."""
FEW = 12
"""Runs that are listed one by one."""
PRIMARY = "primary"
COMPARISONS = {"per_doubling", *(f"mean_over_{budget}" for budget in BUDGETS)}
"""What a claim may ask of several arms together (`effects.py`); `MEASURES` has what it may ask of a single run."""
EVALUATION = {"eval_judgments", "eval_tasks"}
"""Keys that decide what is measured beside the held-out accuracy, and nothing that is trained."""
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
Names = Annotated[tuple[str, ...], Field(min_length=1)]


@dataclass(frozen=True, config=STRICT)
class Part:
    """One effect that should lie above a threshold: `measure` of the arm, less that of the best of `less`."""

    measure: str
    arms: Names
    less: tuple[str, ...] = ()
    above: float = 0.0

    @model_validator(mode="after")
    def _known(self) -> Self:
        known = MEASURES.keys() | COMPARISONS
        if self.measure not in known:
            raise ValueError(f"measure {self.measure!r}: there are {', '.join(sorted(known))}")
        if len(self.arms) > 1 and self.measure != "per_doubling":
            raise ValueError(f"arms {list(self.arms)}: measure {self.measure!r} takes one")
        return self

    def of_mode(self, arm: str) -> "Part":
        """This part asked of a mode."""
        arms, less = (tuple(arm if name == MODE else name for name in names) for names in (self.arms, self.less))
        return replace(self, arms=arms, less=less)


@dataclass(frozen=True, config=STRICT)
class Claim:
    """Holds when all its parts do. `shown` parts decide nothing. `also`: modes beside the primary one in which it is
    asked too."""

    id: str
    claim: str
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]
    shown: tuple[Part, ...] = ()
    also: tuple[str, ...] = ()
    note: str = ""

    def of_mode(self, mode: str, arm: str) -> "Claim":
        """This claim asked of a mode; its id is that of the primary mode with the mode's name behind."""
        parts, shown = (tuple(part.of_mode(arm) for part in parts) for parts in (self.parts, self.shown))
        return replace(self, id=self.id if mode == PRIMARY else f"{self.id}.{mode}", parts=parts, shown=shown)


@dataclass(frozen=True, config=STRICT)
class Bases:
    drawn: str
    names: Names


@dataclass(frozen=True, config=STRICT)
class Budget:
    """Of every run. `round_rollouts`: rollouts of a round, judging included; 0: as many as the arm's settings give."""

    rounds: PositiveInt
    round_rollouts: int = 0

    def __str__(self) -> str:
        rollouts = f" of {self.round_rollouts} rollouts" if self.round_rollouts else ""
        return f"{self.rounds} round{'s' * (self.rounds > 1)}{rollouts}"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Design:
    """Which runs there are. `arms`: seeds of each, run on all bases, the first to be run first; `settings`: config
    values of every run; `over`: the config that arms are put over, where it is not configs/tiny.yaml."""

    question: str
    bases: Bases
    arms: Annotated[dict[str, PositiveInt], Field(min_length=1)]
    budget: Budget
    settings: dict[str, object]
    over: str | None = None

    def names(self) -> list[Name]:
        """All runs in their order: seed by seed, then arm by arm, so that what is finished is balanced over bases."""
        rounds = range(max(self.arms.values()))
        due = [(arm, seed) for seed in rounds for arm, seeds in self.arms.items() if seed < seeds]
        return [(base, arm, seed) for arm, seed in due for base in self.bases.names]

    def names_of(self, arm: str) -> list[Name]:
        """The runs of one arm, which the file need not name: with its most seeds."""
        return [(base, arm, seed) for seed in range(max(self.arms.values())) for base in self.bases.names]

    def config_values(self, arm: str) -> dict[str, object]:
        """What each run of an arm sets over the arm's file."""
        rollouts = {"round_rollouts": self.budget.round_rollouts} if self.budget.round_rollouts else {}
        return self.settings | {"rounds": self.budget.rounds} | rollouts

    def config(self, name: Name) -> Config:
        return config_of(*name, self.config_values(name[1]), self.over)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Preregistration(Design):
    """`modes`: the arm of each mode of ASL; `moderators`: what effects may depend on, by where a base's measures have
    it; `headline`: arms of the phase diagram. The other fields are prose for the reader."""

    modes: dict[str, str]
    headline: Names
    moderators: dict[str, str]
    measures: dict[str, str]
    statistic: str
    correction: str
    verdicts: str
    exclusions: str
    failure: str
    claims: tuple[Claim, ...]

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if PRIMARY not in self.modes:
            raise ValueError(f"modes: {list(self.modes)} lack {PRIMARY!r}")
        for claim in self.claims:
            if unknown := set(claim.also) - self.modes.keys():
                raise ValueError(f"claim {claim.id}: also: no mode {min(unknown)!r}")
            for part in (*claim.parts, *claim.shown):
                if part.measure not in self.measures:
                    raise ValueError(f"claim {claim.id}: measures do not say what {part.measure!r} is")
        if len({claim.id for claim in self.claims}) < len(self.claims):
            raise ValueError("claims: two have the same id")
        return self

    def asked(self, primary: bool) -> list[Claim]:
        """The claims of the primary mode, or those of the others."""
        if primary:
            return [claim.of_mode(PRIMARY, self.modes[PRIMARY]) for claim in self.claims]
        return [claim.of_mode(mode, self.modes[mode]) for claim in self.claims for mode in claim.also]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class League(Design):
    """`learning_rates`: of each arm. The other fields are prose. What `preregistered.yaml` has the same run of is not
    run again: it is the league's too."""

    rates_chosen: str
    learning_rates: dict[str, float]
    measures: dict[str, str]
    statistic: str
    correction: str
    exclusions: str
    failure: str

    @model_validator(mode="after")
    def _rates_of_all(self) -> Self:
        if other := self.arms.keys() ^ self.learning_rates.keys():
            raise ValueError(f"learning_rates: must have those of the arms and no others; {min(other)!r} is amiss")
        return self

    def names(self) -> list[Name]:
        """Those that are the league's alone, in their order."""
        shared = self.shared()
        return [name for name in self.compared() if name not in shared]

    def compared(self) -> list[Name]:
        """All runs that are compared, in their order."""
        return super().names()

    def shared(self) -> set[Name]:
        """Runs that `preregistered.yaml` names and that differ in nothing but `EVALUATION`."""
        other = read(FILE)
        alike = {arm for arm in self.arms.keys() & other.arms.keys() if _trained(self, arm) == _trained(other, arm)}
        return {name for name in {*self.compared()} & {*other.names()} if name[1] in alike}

    def config_values(self, arm: str) -> dict[str, object]:
        """An arm that the file does not name keeps its own learning rate."""
        rate = {"learning_rate": self.learning_rates[arm]} if arm in self.learning_rates else {}
        return super().config_values(arm) | rate


def _trained(design: Design, arm: str) -> dict[str, object]:
    """What an arm's runs have in common with another design's: all but base, seed and `EVALUATION`."""
    values = asdict(design.config((design.bases.names[0], arm, 0)))
    return {key: value for key, value in values.items() if key not in EVALUATION and key != "base_model"}


@dataclass(frozen=True, config=STRICT, kw_only=True)
class RealRun(Design):
    """`chosen`: how mode and learning rate are chosen; `ratings`: how tasks are rated by reading. All in prose."""

    over: str
    chosen: str
    measures: dict[str, str]
    ratings: str
    statistic: str
    exclusions: str
    failure: str


def read(file: Path = FILE) -> Preregistration | League | RealRun:
    """A file with learning rates is a league's, one with ratings the real run's. Raises `InputError` naming file, key
    and value where it is none."""
    refuse_no_file(file)
    values = read_yaml(file.read_bytes(), str(file))
    if not isinstance(values, dict):
        raise InputError(f"{file}: expected keys and values, found {type(values).__name__}")
    try:
        kind = League if "learning_rates" in values else RealRun if "ratings" in values else Preregistration
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        fault = error.errors()[0]
    where = ".".join(str(key) for key in fault["loc"]) or "the whole"
    raise InputError(f"{file}: key '{where}' is {shortened(fault['input'])}: {fault['msg']}")


def shortened(value: object, length: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]}…"


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Selection:
    """Runs that are named and there; named and missing; there and not named."""

    named: dict[Name, dict]
    missing: list[Name]
    exploratory: list[Name]


def select(design: Design, summaries: dict[Name, dict]) -> Selection:
    """Which runs the claims are computed from."""
    names = design.names()
    named = {name: summaries[name] for name in names if name in summaries}
    return Selection(named, [n for n in names if n not in named], [n for n in summaries if n not in named])


def listed(names: Sequence[Name]) -> str:
    """A few runs by name; of many how many of each arm."""
    if len(names) <= FEW:
        return ", ".join(run_name(*name) for name in names)
    return ", ".join(f"{n} of {arm}" for arm, n in Counter(arm for _, arm, _ in names).items())
