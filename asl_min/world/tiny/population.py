"""The population of bases: draw each base's dials from the ranges of population.yaml, and train those that are missing.

    python -m asl_min.world.tiny.population [b04 v01 ...] [--stages build] [--out build/bases] [--jobs 2]

A base is one noise stage (`train_base.py`) from a checkpoint of the stages before it, which are trained first where
they are not there. Each base is a process of one thread; one that was interrupted begins again, a finished one is kept.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    import os
    from pathlib import Path

    from asl_min.run.command import above_zero, argument, start

    start(
        "asl_min.world.tiny.population",
        __doc__,
        argument("names", nargs="*", help="bases to train (default: the population and the validation bases)"),
        argument(
            "--stages", type=Path, metavar="DIR", default=Path("build"), help="where the stages before the bases are"
        ),
        argument("--out", type=Path, metavar="DIR", default=Path("build/bases"), help="where the bases go"),
        argument("--again", action="store_true", help="also those that are shipped"),
        argument("--jobs", type=above_zero(int), default=os.cpu_count(), help="bases at a time (default: one a core)"),
    )

import os
import random
import subprocess
import sys
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from asl_min.run import durable, terminal
from asl_min.run.errors import InputError
from asl_min.world.tiny.teacher import Noise
from asl_min.world.tiny.train_base import STAGES

FILE = Path(__file__).parent / "population.yaml"
SHIPPED = Path(__file__).parent / "bases"
DIALS = "dials.yaml"
"""In a base's folder: what it was made with, written last."""


@dataclass(frozen=True)
class Base:
    """`place`: in the population, which is also the seed of its demonstrations. `checkpoint`: of the stages before."""

    name: str
    place: int
    checkpoint: str
    noise: Noise


def draw(file: Path = FILE) -> dict[str, Base]:
    """All bases by name, as the file's seed draws them."""
    rules = yaml.safe_load(file.read_text())
    rng, found = random.Random(rules["seed"]), {}
    for place, name in enumerate([*rules["bases"], *rules["validation"]]):
        checkpoint = rng.choice(rules["checkpoints"])
        dials = {}
        for of_role in rules["dials"].values():
            level = rng.uniform(0, 1)
            dials |= {dial: round(level * rng.uniform(*ends), 2) for dial, ends in of_role.items()}
        found[name] = Base(name, place, checkpoint, Noise(**dials))
    return found


def train(base: Base, stages: Path, out: Path) -> None:
    """Into a folder beside, which takes its name when it is whole. Raises `CalledProcessError`."""
    with durable.new_folder(out / base.name) as folder:
        dials = folder / DIALS
        dials.write_text(yaml.safe_dump(asdict(base.noise), sort_keys=False))
        words = ["--start", stages / base.checkpoint, "--dials", dials, "--seed", base.place, "--out", folder]
        module("noise", *words, log=out / f"{base.name}.log", threads=1)
        made_by = f"# Drawn by asl_min/world/tiny/population.py\ncheckpoint: {base.checkpoint}\n"
        dials.write_text(made_by + dials.read_text())
    terminal.say(f"{out / base.name}: trained", "trained", base=base.name)


def module(*words: object, log: Path, threads: int) -> None:
    """`train_base` with these words, its output in a log."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "asl_min.world.tiny.train_base", *map(str, words)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        subprocess.run(command, check=True, stdout=file, stderr=file, env=environment)


def main(args: Namespace) -> None:
    drawn = draw()
    if unknown := [name for name in args.names if name not in drawn]:
        raise InputError(f"{unknown[0]}: no such base; there are {', '.join(drawn)}")
    due = [base for name, base in drawn.items() if name in (args.names or drawn) and not _is_there(name, args)]
    stages = _stages_due(args.stages) if due else {}
    if args.dry_run:
        terminal.tell("\n".join(["would train:", *stages, *(base.name for base in due)]))
        return
    for stage, words in stages.items():
        module(stage, *words, log=args.stages / f"{stage}.log", threads=os.cpu_count() or 1)
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda base: train(base, args.stages, args.out), due))
    terminal.tell(str(args.out), bases={name: str(_folder(name, args)) for name in args.names or drawn})


def _stages_due(folder: Path) -> dict[str, list[object]]:
    """The stages before the bases whose last checkpoint is not there, and the words that train them."""
    due, start = {}, []
    for stage in ("skill", "judging", "practice"):
        last = folder / stage / f"step_{STAGES[stage].steps}"
        if not last.is_dir():
            due[stage] = [*start, "--out", folder / stage]
        start = ["--start", last]
    return due


def _folder(name: str, args: Namespace) -> Path:
    """Where a base lies, or will lie."""
    return SHIPPED / name if (SHIPPED / name).is_dir() and not args.again else args.out / name


def _is_there(name: str, args: Namespace) -> bool:
    return _folder(name, args).is_dir()
