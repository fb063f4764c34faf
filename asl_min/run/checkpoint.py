"""The state of a phase after its last finished step: a phase that is killed goes on from there and ends with the same
numbers.

    checkpoint.json      step, rewards, counters; size and checksum of the phase's growing files; checksum of the
    weights checkpoint_0007.pt   weights and optimizer (read with `weights_only`)

The JSON file is replaced last, so that it always names a complete state. Samples need no state: each has its own seed.
"""

import io
import json
import os
from pathlib import Path

import torch

from asl_min.run import durable

PREFIX = "checkpoint"


def save(folder: Path, step: int, facts: dict, tensors: dict, grown: dict[str, list[dict]]) -> None:
    """Append `grown` rows to the phase's files, then note the state after `step`."""
    append(folder, grown)
    file = folder / f"{PREFIX}_{step:04d}.pt"
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    durable.write_bytes(file, buffer.getvalue())
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.jsonl")}
    files = {name: [size, durable.digest(folder / name, size)] for name, size in sizes.items()}
    state = {"step": step, "facts": facts, "files": files, "weights": durable.digest(file)}
    durable.write_text(folder / f"{PREFIX}.json", json.dumps(state))
    for old in folder.glob(f"{PREFIX}_*.pt"):
        if old != file:
            old.unlink()


def append(folder: Path, grown: dict[str, list[dict]]) -> None:
    """Rows at the end of files by name, which are made where there are none. What was appended after the last state is
    cut off by `rewind`."""
    for name, rows in grown.items():
        durable.append_rows(folder / name, rows)


def load(folder: Path) -> tuple[int, dict, dict] | None:
    """Step, facts and tensors of the last state; None where there is none, or where a file does not fit its
    checksum."""
    try:
        state = json.loads((folder / f"{PREFIX}.json").read_text())
        file = folder / f"{PREFIX}_{state['step']:04d}.pt"
        whole = durable.digest(file) == state["weights"]
        if not whole or any(
            durable.digest(folder / name, size) != known for name, (size, known) in state["files"].items()
        ):
            return None
        return state["step"], state["facts"], torch.load(file, weights_only=True, map_location="cpu")
    except (OSError, ValueError, KeyError, TypeError):
        return None


def rewind(folder: Path) -> None:
    """Cut the phase's files back to the last state, and drop those that are younger."""
    files = json.loads((folder / f"{PREFIX}.json").read_text())["files"]
    for path in folder.glob("*.jsonl"):
        if path.name not in files:
            path.unlink()
        else:
            os.truncate(path, files[path.name][0])


def clear(folder: Path) -> None:
    for path in folder.glob(f"{PREFIX}*"):
        path.unlink()
