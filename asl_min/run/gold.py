"""The guard of claim C10: gold answers are out of reach while a training phase runs.

Training phases run inside `training()`. There, `refuse_in_training` raises, and so does Python's `open` on any file
that was declared gold: a QA set, the facts of the embedded world, the output of an evaluation. An audit hook of the
interpreter watches every `open`, whatever code calls it. It does not see readers written in C++ that do not use
Python's `open`. A recipe that uses gold names the files (`Recipe.gold_files`), and `training()` lets these through.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

FACTS = Path(__file__).parents[1] / "world" / "data" / "facts.json"
"""The embedded world's facts, gold in every run."""


class GoldAccessError(RuntimeError):
    """Training code touched gold answers."""


_phase: str | None = None
_allowed: frozenset[str] = frozenset()
_gold_paths: set[str] = {os.path.realpath(FACTS)}
_hooked = False


def declare(*paths: str | Path) -> None:
    """Mark files, or folders with all they hold, as gold."""
    _gold_paths.update(os.path.realpath(path) for path in paths)


def refuse_in_training(what: str, path: str | Path) -> None:
    """Raise `GoldAccessError` inside a training phase that may not read `path`, the file with this gold; do nothing
    outside training."""
    if _phase is not None and os.path.realpath(path) not in _allowed:
        raise GoldAccessError(f"{what} touched during {_phase}: gold answers may not reach training")


@contextmanager
def training(phase: str, allowed: Iterable[str | Path] = ()) -> Iterator[None]:
    """Everything inside is training: gold is refused until the block ends, except for the `allowed` files. An inner
    block allows no file that the outer one refuses."""
    global _phase, _allowed, _hooked
    if not _hooked:
        sys.addaudithook(_watch)
        _hooked = True
    outer, given = (_phase, _allowed), frozenset(os.path.realpath(path) for path in allowed)
    _phase, _allowed = phase, given if _phase is None else given & _allowed
    try:
        yield
    finally:
        _phase, _allowed = outer


def _watch(event: str, args: tuple) -> None:
    if _phase is None or event != "open" or not isinstance(args[0], str | bytes | os.PathLike):
        return
    path = os.path.realpath(os.fsdecode(args[0]))
    if any(path == gold or path.startswith(gold + os.sep) for gold in _gold_paths):
        refuse_in_training(path, path)
