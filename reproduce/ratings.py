"""Tasks rated by reading, since no oracle knows real text: drawn by lot, blind to their arm, and joined with it again.

    python -m reproduce.ratings draw --runs runs/real_BASE_*_seed0 [--folder runs/ratings]
    python -m reproduce.ratings read [--folder runs/ratings] [--results reproduce/results]

`draw` takes `SIZE` tasks of each round of each run (all where there are fewer) and writes FOLDER/tasks.jsonl, shuffled
over runs and rounds, and FOLDER/key.jsonl, which says where each is from and stays closed until all are rated. A rater
replaces the nulls of tasks.jsonl by the rule in rating_rule.md. `read` joins both files, prints the table and writes
RESULTS/real/ratings.jsonl, without the articles' text.

Drawn are well-formed tasks, kept or not, of the steps whose episodes a run keeps: the first and the last of a phase.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    start(
        "reproduce.ratings",
        __doc__,
        argument("what", choices=("draw", "read")),
        argument("--runs", type=Path, nargs="+", default=[], metavar="DIR", help="to draw: run folders"),
        argument("--folder", type=Path, metavar="DIR", default=Path("runs/ratings"), help="default: runs/ratings"),
        argument("--seed", type=int, default=0, help="of the lot (0)"),
        argument("--results", type=Path, metavar="DIR", help="default: reproduce/results"),
    )

import random
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Self

import pydantic
from pydantic import Field, ValidationError, model_validator

from asl_min.config import PositiveInt
from asl_min.corpus import read_jsonl, write_jsonl
from asl_min.episode import Episode, Task
from asl_min.rewards import normalize
from asl_min.run import run_dir, terminal
from asl_min.run.errors import InputError
from reproduce.rating_table import ratings_table
from reproduce.records import RESULTS, base_name

SIZE = 100
"""Tasks of a run and round."""
TO_FILL = dict.fromkeys(("rater", "answerable", "answer_right", "hops"))
TASKS, KEY, RATINGS = "tasks.jsonl", "key.jsonl", Path("real") / "ratings.jsonl"
WRITER = "prompt_generator"


@dataclass(frozen=True)
class Origin:
    """Where a drawn task is from: a row of key.jsonl. `kept`: whether it was one of the round's tasks."""

    id: str
    base: str
    arm: str
    seed: int
    round: int
    kept: bool
    question: str


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid", strict=True))
class Rating:
    """A filled row of tasks.jsonl. `answer`: the writer's own; `pages`: what its searches brought."""

    id: str
    question: str
    answer: str
    pages: list[str]
    rater: Annotated[str, Field(min_length=1)]
    answerable: bool
    answer_right: bool
    hops: PositiveInt | None

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.answerable != (self.hops is not None):
            raise ValueError(f"hops is {self.hops}, but answerable is {self.answerable}: hops of those alone, of all")
        if self.answer_right and not self.answerable:
            raise ValueError("answer_right is True, but answerable is False")
        return self


def draw(runs: Sequence[Path], seed: int, size: int = SIZE) -> tuple[list[dict], list[Origin]]:
    """Rows to be rated and where they are from, in one random order. Raises `InputError` where a folder holds no run,
    where two hold the same one, and where none has a task."""
    found: list[tuple[dict, dict]] = []
    folders: dict[tuple, Path] = {}
    for run in runs:
        config = run_dir.read_config(run)
        name = base_name(config.base_model), config.name, config.seed
        if (other := folders.setdefault(name, run)) is not run:
            raise InputError(f"{run}: the same run as {other}: {' '.join(map(str, name))}")
        for number in range(1, config.rounds + 1):
            tasks = written(run, number) if run_dir.is_done(run, number, WRITER) else []
            drawn = random.Random(repr((seed, name, number))).sample(tasks, min(size, len(tasks)))
            origin = dict(zip(("base", "arm", "seed", "round"), (*name, number), strict=True))
            found += [(shown(task, episode), origin | {"kept": task.kept}) for task, episode in drawn]
    if not found:
        raise InputError(f"--runs: no tasks in {', '.join(map(str, runs)) or 'no run'}")
    random.Random(seed).shuffle(found)
    ids = [f"task_{number:04}" for number in range(1, len(found) + 1)]
    rows = [{"id": id} | row for id, (row, _) in zip(ids, found, strict=True)]
    return rows, [Origin(row["id"], **of, question=row["question"]) for row, (_, of) in zip(rows, found, strict=True)]


def written(run: Path, number: int) -> list[tuple[Task, Episode]]:
    """The well-formed tasks of a round, each question once, with the episodes that wrote them."""
    file = run_dir.require(run, number, WRITER) / "episodes.jsonl"
    first: dict[str, tuple[Task, Episode]] = {}
    for _, row in read_jsonl(file):
        episode = Episode.of_record(row)
        task = Task.of_record(episode.meta["task"])
        if task.well_formed:
            first.setdefault(normalize(task.question), (task, episode))
    return list(first.values())


def shown(task: Task, episode: Episode) -> dict:
    """What a rater sees."""
    return {"question": task.question, "answer": task.answer, "pages": episode.responses} | TO_FILL


def read(folder: Path) -> list[dict]:
    """The rating of each drawn task beside its origin, in the order of base, arm, seed and round. Raises `InputError`
    on a row that is not filled or not of a drawn task, on a second rating of one, and where one has none."""
    origins = {row["id"]: Origin(**row) for _, row in read_jsonl(folder / KEY)}
    ratings: dict[str, Rating] = {}
    for number, row in read_jsonl(folder / TASKS):
        rating = checked(row, where := f"{folder / TASKS}:{number}")
        if not (origin := origins.get(rating.id)):
            raise InputError(f"{where}: no task {rating.id!r} was drawn")
        if rating.question != origin.question:
            raise InputError(f"{where}: the question of {rating.id!r} is {rating.question!r}, not {origin.question!r}")
        if rating.id in ratings:
            raise InputError(f"{where}: a second rating of {rating.id!r}")
        ratings[rating.id] = rating
    if missing := origins.keys() - ratings.keys():
        raise InputError(f"{folder / TASKS}: lacks {len(missing)} of {len(origins)} tasks, first {min(missing)!r}")
    rows = [asdict(origin) | asdict(ratings[id]) for id, origin in origins.items()]
    for row in rows:
        del row["pages"]
    return sorted(rows, key=lambda row: (row["base"], row["arm"], row["seed"], row["round"], row["id"]))


def checked(row: dict, where: str) -> Rating:
    """Raises `InputError` naming `where`, the key and the value."""
    try:
        return Rating(**row)
    except ValidationError as error:
        fault = error.errors()[0]
    if not fault["loc"]:
        raise InputError(f"{where}: {fault['ctx']['error']}")
    key = fault["loc"][0]
    raise InputError(f"{where}: key {key!r} is {row.get(key)!r}: {fault['msg']}")


def main(args: Namespace) -> None:
    if args.what == "draw":
        draw_into(args.folder, args.runs, args.seed, args.dry_run)
        return
    rows, file = read(args.folder), (args.results or RESULTS) / RATINGS
    if not args.dry_run:
        write_jsonl(file, rows)
    terminal.tell(f"{ratings_table(rows)}\n\n{file}", file=str(file), ratings=rows)


def draw_into(folder: Path, runs: Sequence[Path], seed: int, dry_run: bool) -> None:
    """Raises `InputError` where something was drawn into the folder before, which may be rated by now."""
    if (folder / TASKS).exists() or (folder / KEY).exists():
        raise InputError(f"{folder}: tasks were drawn into it before; take another --folder")
    rows, origins = draw(runs, seed)
    if not dry_run:
        write_jsonl(folder / KEY, [asdict(origin) for origin in origins])
        write_jsonl(folder / TASKS, rows)
    text = f"{folder / TASKS}: {len(rows)} tasks to be rated by reproduce/rating_rule.md; {KEY} stays closed till then"
    terminal.tell(text, file=str(folder / TASKS), tasks=len(rows))
