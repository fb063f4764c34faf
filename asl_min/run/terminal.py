"""What every script says while it works: a progress bar and tables (the default), nothing (`--quiet`) or JSON lines
(`--json`), all on stderr. Plans and results go to stdout."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

WIDTH = 140
WIDE = 120
"""Columns of a terminal in which a bar with all its parts has room."""
LOG_SECONDS = 20.0
"""Between two lines of progress in a log."""

mode = "bar"
"""Of the process: "bar", "quiet" or "json"; set by `command.start`."""
run_facts: dict[str, float | None] = {"accuracy": None, "seconds_left": None}
"""What a step's line says of the whole run: the last held-out accuracy and the time left. Only shown, never read by
training."""


def tell(text: str, **facts: object) -> None:
    """A plan or a result, on stdout: as text, or with `--json` its facts as one JSON document. Whoever reads it may
    stop reading, as `head` does."""
    try:
        line = json.dumps(facts) if mode == "json" else text
        print(f"{line}\n", end="", flush=True)  # in one piece, whatever other processes print
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes the rest when it ends


def say(shown: RenderableType, event: str, **facts: object) -> None:
    """Something to look at, or its event with the facts as a JSON line."""
    if mode == "bar":
        console = Console(stderr=True)
        Console(stderr=True, width=max(console.width, WIDTH), markup=False).print(shown)
    elif mode == "json":
        print(json.dumps({"event": event} | facts), file=sys.stderr, flush=True)


@contextmanager
def progress(first: int, total: int | None, shown: bool, **facts: object) -> Iterator[Callable[[float], None]]:
    """A bar over `total` steps (None: not known before), `first` of them done before, of what `facts` name (round,
    phase); where stderr is a log and no terminal, a line every `LOG_SECONDS`. What it gives is called after each step
    with its reward."""
    console, done, told = Console(stderr=True), first, time.monotonic()
    what = " ".join(str(v) if key == "phase" else f"{key} {v}" for key, v in facts.items()).replace("_", " ")
    with Progress(*columns_of(console), console=console, disable=not is_bar(console, shown)) as bars:
        bar = bars.add_task(what, total=total, completed=first, note="")

        def advance(reward: float) -> None:
            nonlocal done, told
            done += 1
            bars.update(bar, advance=1, note=note(reward))
            if shown and mode == "json":
                say("", "step", **facts, step=done, of=total, reward=reward, **run_facts)
            due = done == total or time.monotonic() - told >= LOG_SECONDS
            if due and shown and mode == "bar" and not console.is_terminal:
                told = time.monotonic()
                print(f"{what}: {done}{f'/{total}' if total else ''}, {note(reward)}", file=sys.stderr, flush=True)

        yield advance


def is_bar(console: Console, shown: bool) -> bool:
    return shown and mode == "bar" and console.is_terminal


def columns_of(console: Console) -> list[ProgressColumn]:
    """The parts of the bar, as many as fit; what is being done and the figures always."""
    bar, times = [BarColumn(24)], [TimeElapsedColumn(), TimeRemainingColumn()]
    ends = [MofNCompleteColumn(), *(times if console.width >= WIDE else []), TextColumn("{task.fields[note]}")]
    return [TextColumn("{task.description}"), *(bar if console.width >= WIDE else []), *ends]


def note(reward: float) -> str:
    accuracy, left = run_facts["accuracy"], run_facts["seconds_left"]
    parts = [
        f"reward {reward:.3f}",
        accuracy is not None and f"accuracy {100 * accuracy:.1f}%",
        left is not None and f"run {left / 60:.0f} min left",
    ]
    return ", ".join(part for part in parts if part)


@contextmanager
def one_run() -> Iterator[None]:
    """Inside, `run_facts` are those of one whole run; afterwards they are forgotten."""
    unknown = dict(run_facts)
    try:
        yield
    finally:
        run_facts.update(unknown)


def expect(done: int, phases: int, seconds: float) -> None:
    """Notes how long the run will still take, from the seconds that its first `done` phases took."""
    run_facts["seconds_left"] = seconds / done * (phases - done) if done else None
