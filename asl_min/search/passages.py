"""Passages of a corpus too large for memory, read from its JSONL file by their place in it.

bm25s has a reader of its own (`JsonlCorpus`), which is not used: threads share one file position there, so that under
load some reads return another passage; and it holds every offset as a Python integer.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from asl_min.corpus import Passage, parse_passage, parse_row, refuse_no_file
from asl_min.run import terminal
from asl_min.run.errors import InputError


class PassageFile:
    """The passages of a file. `offsets` [passages + 1]: where each starts, in bytes, and where the last one ends. Safe
    to use from threads."""

    def __init__(self, path: Path, offsets: np.ndarray):
        self.path, self.offsets, self._file = path, offsets, os.open(path, os.O_RDONLY)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, place: int) -> Passage:
        """Raises `InputError` where the row is malformed, naming its line (blank lines not counted)."""
        start, end = int(self.offsets[place]), int(self.offsets[place + 1])
        where = f"{self.path}:{place + 1}"
        return parse_passage(parse_row(os.pread(self._file, end - start, start).decode(errors="replace"), where), where)

    @classmethod
    def scan(cls, path: Path) -> "PassageFile":
        """Reads the whole file once; blank lines are not passages. Raises `InputError` where there are none."""
        refuse_no_file(path)
        starts, place = [], 0
        with open(path, "rb") as file:
            for line in file:
                if line.strip():
                    starts.append(place)
                place += len(line)
        if not starts:
            raise InputError(f"{path}: the corpus is empty")
        return cls(path, np.array([*starts, place], dtype=np.int64))


def progress(places: range, doing: str) -> Iterable[int]:
    """The places, under a progress bar on stderr where the terminal shows any."""
    return track(places, doing, console=Console(stderr=True), disable=terminal.mode != "bar")
