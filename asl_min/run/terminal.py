"""What every script says while it works: a progress bar and tables (the default), nothing (`--quiet`) or JSON lines
(`--json`), all on stderr."""

import argparse
import errno
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import SafetensorError

from asl_min.run.errors import InputError

WIDTH = 140

mode = "bar"
"""Of the process: "bar", "quiet" or "json"; set once by `parse`."""
run_facts: dict[str, float | None] = {"accuracy": None, "seconds_left": None}
"""What a step's line says of the whole run: the last held-out accuracy and the time left. Only shown, never read by
training."""


def parse(parser: argparse.ArgumentParser, arguments: list[str] | None = None) -> argparse.Namespace:
    """The arguments of a script, with the three flags that all of them take."""
    global mode
    group = parser.add_argument_group("what is said").add_mutually_exclusive_group()
    group.add_argument(
        "--quiet",
        action="store_const",
        dest="mode",
        const="quiet",
        default="bar",
        help="say nothing but errors and the result",
    )
    group.add_argument(
        "--json", action="store_const", dest="mode", const="json", help="JSON lines for logs instead of bars and tables"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    args = parser.parse_intermixed_args(arguments)  # flags may stand between a script's operands
    mode = args.mode
    return args


def say(shown: RenderableType, event: str, **facts: object) -> None:
    """Something to look at, or its event with the facts as a JSON line."""
    if mode == "bar":
        console = Console(stderr=True)
        Console(stderr=True, width=max(console.width, WIDTH), markup=False).print(shown)
    elif mode == "json":
        print(json.dumps({"event": event} | facts), file=sys.stderr, flush=True)


@contextmanager
def progress(first: int, total: int, shown: bool, **facts: object) -> Iterator[Callable[[float], None]]:
    """A bar over `total` steps, `first` of them done before, of what `facts` name (round, phase). What it gives is
    called after each step with its reward."""
    columns = (
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(
        TextColumn("{task.description}"), *columns, console=Console(stderr=True), disable=not shown or mode != "bar"
    ) as bars:
        bar = bars.add_task(
            " ".join(f"{key} {value}" for key, value in facts.items()).replace("_", " "),
            total=total,
            completed=first,
            note="",
        )
        done = first

        def advance(reward: float) -> None:
            nonlocal done
            done += 1
            bars.update(bar, advance=1, note=note(reward))
            if shown and mode == "json":
                say("", "step", **facts, step=done, of=total, reward=reward, **run_facts)

        yield advance


def note(reward: float) -> str:
    accuracy, left = run_facts["accuracy"], run_facts["seconds_left"]
    parts = [
        f"reward {reward:.3f}",
        accuracy is not None and f"accuracy {100 * accuracy:.1f}%",
        left is not None and f"run {left / 60:.0f} min left",
    ]
    return ", ".join(part for part in parts if part)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Bad input ends a script with one line and exit code 2, a full disk with one line and exit code 1."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT) and "No space left" not in str(error):
            raise
        print(f"error: no space left on the disk ({error}); free some, then the same command goes on", file=sys.stderr)
        raise SystemExit(1) from None
