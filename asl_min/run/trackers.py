"""The experiment tracker that gets every step's metrics, if the config names one: all phases of a run in one line."""

import secrets
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator
from accelerate.tracking import filter_trackers, get_available_trackers

from asl_min.config import Config
from asl_min.model import ROLES
from asl_min.run import durable, run_dir
from asl_min.run.errors import InputError


def start_trackers(accelerator: Accelerator, run: Path, config: Config) -> int:
    """Open the configured tracker, if there is one. Returns the number of steps of the run before this phase, since a
    tracker counts the steps of the whole run.

    Raises `InputError` where the tracker's package is not installed.
    """
    done = finished_steps(run, config)
    if not config.trackers:
        return sum(done)
    check_tracker(config)
    folder = run / "trackers"
    accelerator.project_configuration.set_directories(str(folder))
    accelerator.log_with = filter_trackers(config.trackers, folder)
    settings = {key: "null" if value is None else value for key, value in asdict(config).items()}
    name = tracked_name(run) if accelerator.is_main_process else run.name
    resumed = {"name": name, "resume": "allow"}
    own = {"wandb": resumed | {"id": name, "dir": str(folder)}, "trackio": resumed}
    accelerator.init_trackers("asl_min", None if done else settings, own)
    return sum(done)


def check_tracker(config: Config) -> None:
    """Raises `InputError` where the configured tracker's package is not installed."""
    if config.trackers and config.trackers not in map(str, get_available_trackers()):
        raise InputError(f"trackers: {config.trackers!r} is not installed")


def finished_steps(run: Path, config: Config) -> list[int]:
    """The number of steps of each finished phase."""
    phases = [(number, role) for number in range(1, config.rounds + 1) for role in ROLES]
    return [run_dir.facts(run, *phase)["steps"] for phase in phases if run_dir.is_done(run, *phase)]


def tracked_name(run: Path) -> str:
    """The name of a run in its tracker: that of its folder and six random characters, so that runs in folders of the
    same name stay apart. It is written down, so that every phase uses the same."""
    file = run / "trackers" / "name"
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        durable.write_text(file, f"{run.name}-{secrets.token_hex(3)}")
    return file.read_text()
