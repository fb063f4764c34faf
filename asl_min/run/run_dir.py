"""The folder of a run: its layout, which phases are finished, and whether their files are intact. Phases hand
results on only through these files.

    runs/NAME/config.yaml, prompts.yaml, started             started: when its first round began, UTC
    runs/NAME/round_02/{prompt_generator,reward_model,policy}/   adapter/ metrics.jsonl *.jsonl done.json
    runs/NAME/round_02/evaluation/                               results.json and the rows behind it (gold)
    runs/NAME/summary.json, report/
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import yaml

from asl_min.chat import load_prompts
from asl_min.config import MAY_CHANGE, Config, check, dump_config, read_yaml
from asl_min.model import ROLES
from asl_min.run import checkpoint, durable
from asl_min.run.errors import InputError
from asl_min.run.old_names import upgrade_config

DONE = "done.json"
STARTED = "started"
"""The file that holds the time of the run's start."""
CARD = "README.md"
"""A model card. It has no checksum, since it may be written after the phase is done."""


def create(run: Path, config: Config) -> None:
    """Make the folder, or accept one that holds this run, and write the values that may change. The start time is kept
    once a round has begun. Raises `InputError` where it cannot be written, holds another run or a config.yaml that is
    of no run, or is worked on."""
    check_place(run)
    run.mkdir(parents=True, exist_ok=True)
    with held(run):
        refuse_conflict(run, config)
        if not has_begun(run):
            note_start(run)
        durable.write_text(run / "config.yaml", dump_config(config))
        durable.write_text(run / "prompts.yaml", yaml.safe_dump(load_prompts(config.prompts), sort_keys=False))


def note_start(run: Path) -> None:
    durable.write_text(run / STARTED, datetime.now(UTC).isoformat(timespec="seconds"))


def has_begun(run: Path) -> bool:
    """Is there a round?"""
    return any(run.glob("round_*"))


def started(run: Path) -> str | None:
    """When the run began, UTC in ISO form; None for a run of a version that did not note it."""
    file = run / STARTED
    return file.read_text() if file.is_file() else None


def check_place(run: Path) -> None:
    """Raises `InputError` where no folder can be made or written."""
    there = next(place for place in (run, *run.absolute().parents) if place.exists())
    if not there.is_dir():
        raise InputError(f"{run}: {there} is a file, not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{run}: no permission to write in {there}")


def refuse_conflict(run: Path, config: Config) -> None:
    """Raises `InputError` where the folder holds a run with another value of a key that must not change, or files of
    these names that no run wrote. A run that has not begun a round may be replaced: its start failed, say."""
    own = next((file for name in ("config.yaml", "prompts.yaml") if (file := run / name).exists()), None)
    if own and not has_begun(run) and not (run / STARTED).is_file():
        raise InputError(f"{own}: is not of a run, and would be replaced; take another --run folder")
    if not (run / "config.yaml").is_file() or not has_begun(run):
        return
    old = asdict(read_config(run))
    for key, new in asdict(config).items():
        if old[key] != new and key not in MAY_CHANGE:
            raise InputError(f"{run}: holds a run with {key} = {old[key]!r}, not {new!r}; take another --run folder")
    file = run / "prompts.yaml"
    if file.is_file() and read_yaml(file.read_bytes(), str(file)) != load_prompts(config.prompts):
        raise InputError(f"{run}: holds a run with the prompts of its prompts.yaml; {config.prompts!r} has others now")


def read_config(run: Path) -> Config:
    """The config of a run. Raises `InputError` where the folder holds no run."""
    file = run / "config.yaml"
    if not file.is_file():
        raise InputError(f"{run}: holds no run (no config.yaml); start one with python -m asl_min.rounds")
    values = read_yaml(file.read_bytes(), str(file))
    if not isinstance(values, dict):
        raise InputError(f"{file}: expected keys and values, found {type(values).__name__}")
    try:
        return check(upgrade_config(values), str(file))
    except (KeyError, TypeError) as error:
        raise InputError(f"{file}: is not what a run wrote: {error!r}") from None


def check_round(config: Config, number: int, first: int = 1) -> None:
    """Raises `InputError` for a round that the run does not have. `first`: 0 where the base counts as a round."""
    if not first <= number <= config.rounds:
        raise InputError(f"round {number}: the run has rounds {first} to {config.rounds} (key 'rounds')")


def phase_dir(run: Path, round_number: int, phase: str) -> Path:
    """The folder of a phase of a round. `phase`: a role or "evaluation"."""
    return run / f"round_{round_number:02d}" / phase


def is_done(run: Path, round_number: int, phase: str) -> bool:
    return (phase_dir(run, round_number, phase) / DONE).is_file()


def begin(run: Path, round_number: int, phase: str) -> Path:
    """An empty folder for a phase. What an unfinished attempt left there is deleted."""
    folder = phase_dir(run, round_number, phase)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def finish(folder: Path, facts: dict) -> None:
    """Mark a phase as done by writing done.json, after all its other files: `facts` and each file's checksum."""
    for path in folder.rglob("*" + durable.TEMPORARY):
        path.unlink()
    kept = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in (DONE, CARD)]
    files = [path for path in kept if not path.name.startswith(checkpoint.PREFIX)]
    for path in files:
        durable.sync(path)
    known = {str(path.relative_to(folder)): durable.digest(path) for path in files}
    durable.write_text(folder / DONE, json.dumps(facts | {"files": known}, indent=1))


def facts(run: Path, round_number: int, phase: str) -> dict:
    """What a finished phase cost: steps, episodes, tokens, seconds."""
    return json.loads((phase_dir(run, round_number, phase) / DONE).read_text())


def rollouts(run: Path, round_number: int, phases: Sequence[str]) -> int:
    """Episodes of all roles that these phases of a round spent; one that is not finished counts as nothing."""
    done = [facts(run, round_number, phase) for phase in phases if is_done(run, round_number, phase)]
    return sum(found["episodes"] + found["judge_calls"] for found in done)


def damage(folder: Path) -> str | None:
    """The first file of a finished phase that has changed since the phase ended; None if there is none."""
    try:
        files = json.loads((folder / DONE).read_text())["files"].items()
    except (ValueError, KeyError, TypeError, AttributeError):
        return DONE
    changed = (name for name, known in files if durable.digest(folder / name) != known)
    return next((name for name in changed if Path(name).name != CARD), None)


def mend(run: Path, rounds: int) -> list[str]:
    """Mark every phase with a damaged file as not done, and those computed from it too, so that they are computed
    again. Returns a message for each damaged one."""
    found: list[str] = []
    phases = [(number, phase) for number in range(rounds + 1) for phase in (*ROLES, "evaluation")]
    broken = False
    for number, phase in phases:
        folder = phase_dir(run, number, phase)
        name = damage(folder) if is_done(run, number, phase) else None
        if name:
            found.append(
                f"{folder / name} is damaged: computing this phase again"
                + ("" if phase == "evaluation" else " and all after it")
            )
        if name or (broken and is_done(run, number, phase)):
            (folder / DONE).unlink()
        elif broken or is_done(run, number, phase):  # done: a process was killed right after the end of the phase
            checkpoint.clear(folder)
        broken = broken or bool(name and phase != "evaluation")
    return found


@contextmanager
def lock(run: Path) -> Iterator[None]:
    """Let one process, or one group of processes, at a time work on a run. Raises `InputError` where another one does,
    or where the folder holds no run."""
    read_config(run)
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    with held(run):
        yield


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises `InputError` where another process does."""
    with open(run / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise InputError(f"{run}: process {file.read().strip() or '?'} is at work on this run") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def latest_adapters(run: Path, config: Config, round_number: int, role: str | None) -> dict[str, Path]:
    """The adapter folder of each role at the start of `role`'s phase of a round, or after the round if `role` is None.

    A shared adapter is the one of the phase before; with an adapter for each role, it is that of the role's own last
    phase. Raises `InputError` where an earlier phase is not finished.
    """
    order = [(r, phase) for r in range(1, round_number + 1) for phase in ROLES]
    before = order[: order.index((round_number, role))] if role else order
    found = {}
    for number, phase in before:
        folder = require(run, number, phase) / "adapter"
        for name in ROLES if config.adapters == "shared" else (phase,):
            found[name] = folder
    return found


def require(run: Path, round_number: int, phase: str) -> Path:
    """The folder of a finished phase. Raises `InputError` where the phase is not finished or a file of it is
    damaged."""
    folder = phase_dir(run, round_number, phase)
    if not is_done(run, round_number, phase):
        raise InputError(f"{run}: phase {phase} of round {round_number} is not finished; run it first")
    if name := damage(folder):
        raise InputError(f"{folder / name}: damaged; python -m asl_min.rounds --run {run} computes it again")
    return folder
