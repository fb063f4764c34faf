"""The state of a phase on the disk, so that a killed phase goes on from its last save and ends with the same numbers.

    NAME.jsonl           files that grow by rows; a save notes how much of each belongs to the state
    checkpoint_0007.pt   weights and optimizer after step 7
    checkpoint.json      the step, what the phase has cost, and the checksums of all these files

`checkpoint.json` is replaced last, so it always describes a complete state. A save costs the same however long the
phase has run: each growing file has a running checksum, so that no save reads it again. Random numbers need no state,
since every sample has its own seed.
"""

import hashlib
import json
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from asl_min.run import durable

PREFIX = "checkpoint"


@dataclass(frozen=True)
class State:
    """A phase after a finished step."""

    step: int
    cost: dict[str, float]
    """Steps, episodes, tokens, seconds and so on, up to this step."""
    episodes: list[dict]
    """The records of the last step's episodes."""
    tensors: dict
    """Weights and optimizer, as `Learner.state` gives them."""


class Journal:
    """The growing files of a phase and its last state. Of several processes one `writes`; the others keep the rows in
    memory only."""

    def __init__(self, folder: Path, writes: bool = True):
        self.folder, self.writes = folder, writes
        self.rows: dict[str, list[dict]] = defaultdict(list)
        """The rows of each growing file that are to be remembered, by its name without ".jsonl"; after `load` all."""
        self._hashes: dict[str, hashlib._Hash] = {}

    def append(self, name: str, rows: list[dict], remember: bool = True) -> None:
        """Add rows to NAME.jsonl, which is made if need be. They count from the next save on."""
        self.rows[name] += rows if remember else []
        if not self.writes:
            return
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        with open(self._file(name), "ab") as file:
            file.write(data)
        self._hashes.setdefault(name, hashlib.sha256()).update(data)

    def save(self, state: State) -> None:
        """Make this the state that `load` finds."""
        if not self.writes:
            return
        weights = self._weights(state.step)
        with durable.replacing(weights) as file:
            stream = _Hashing(file)
            torch.save(state.tensors, stream)
        known = {"step": state.step, "cost": state.cost, "episodes": state.episodes}
        known |= {"weights": stream.hash.hexdigest(), "files": self._files()}
        durable.write_text(self._state, json.dumps(known))
        for old in self.folder.glob(f"{PREFIX}_*.pt"):
            if old != weights:
                old.unlink()

    def load(self) -> State | None:
        """The last state; `rows` are as they were then. None where there is none, where an earlier version wrote it, or
        where a file does not match its checksum."""
        try:
            known = json.loads(self._state.read_text())
            weights, files = self._weights(known["step"]), known["files"]
            data = {name: self._file(name).read_bytes()[:size] for name, (size, _) in files.items()}
            hashes = {name: hashlib.sha256(content) for name, content in data.items()}
            intact = all(hashes[name].hexdigest() == digest for name, (_, digest) in files.items())
            if not intact or durable.digest(weights) != known["weights"]:
                return None
            tensors = torch.load(weights, weights_only=True, map_location="cpu")
            state = State(known["step"], known["cost"], known["episodes"], tensors)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        self.rows |= {name: [json.loads(line) for line in content.splitlines()] for name, content in data.items()}
        self._hashes = hashes
        return state

    def rewind(self) -> None:
        """Cut the growing files back to the last state, and drop those that are younger."""
        files = json.loads(self._state.read_text())["files"]
        for path in self.folder.glob("*.jsonl"):
            if path.stem in files:
                os.truncate(path, files[path.stem][0])
            else:
                path.unlink()

    def _files(self) -> dict[str, tuple[int, str]]:
        """Size in bytes and checksum of each growing file, by name; flushes them to the disk."""
        for name in self._hashes:
            durable.sync(self._file(name))
        return {name: (self._file(name).stat().st_size, found.hexdigest()) for name, found in self._hashes.items()}

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    def _weights(self, step: int) -> Path:
        return self.folder / f"{PREFIX}_{step:04d}.pt"

    @property
    def _state(self) -> Path:
        return self.folder / f"{PREFIX}.json"


class _Hashing:
    """The part of a file that `torch.save` needs; hashes what passes through, so that it is not held in memory."""

    def __init__(self, file: BinaryIO):
        self._file, self.hash = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def clear(folder: Path) -> None:
    """Drop the state of a phase that is done."""
    for path in folder.glob(f"{PREFIX}*"):
        path.unlink()
