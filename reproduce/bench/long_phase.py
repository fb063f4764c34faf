"""Do the time and the memory of a step stay as they are over a long phase? A round of the miniature whose three phases
take very many of the smallest steps, each phase in a process of its own that is watched from outside.

    python -m reproduce.bench.long_phase --steps 1000 --out reproduce/results

Writes long_phase.json, with a row a phase, and long_phase.svg. The seconds are those between two lines of
metrics.jsonl, so that checkpoints and logs count; `cpu` are the processor's, which other jobs on the machine hardly
change. `early` and `late` are medians over the second and the last tenth of the steps.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    start(
        "reproduce.bench.long_phase",
        __doc__,
        argument("--steps", type=int, default=1000, help="of each phase"),
        argument("--out", type=Path, default=Path("runs/bench"), help="folder of the row and the figure"),
        argument("--run", type=Path, help="the run folder, kept; default: a temporary one"),
    )

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from itertools import pairwise
from pathlib import Path
from statistics import median

import psutil
import torch
from matplotlib.figure import Figure

from asl_min.config import load_config
from asl_min.model import ROLES
from asl_min.run import run_dir, terminal
from asl_min.run.errors import InputError
from asl_min.run.inputs import prepare

MIB = 2**20
POLL_SECONDS = 0.05
SMALLEST = {f"{phase}_{what}": 2 for phase in ("pg", "grm", "policy") for what in ("prompts", "samples")}
REST = {"rounds": 1, "round_rollouts": 0, "attempts": 2, "verify_samples": 1, "max_turns": 3, "threads": 1}
MEASURES = {"seconds": "seconds a step", "cpu": "processor seconds a step", "rss": "resident memory, MiB"}
Steps = dict[str, list[float]]
"""The values of `MEASURES` by step."""


def play(run: Path, role: str) -> Steps:
    """Run a phase in a process of its own. Raises `InputError` where it takes no step."""
    log = run_dir.phase_dir(run, 1, role) / "metrics.jsonl"
    command = [sys.executable, "-m", f"asl_min.train_{role}", "--run", str(run), "--round", "1", "--quiet"]
    with subprocess.Popen(command) as process:
        seen = watch(psutil.Process(process.pid), log)
    if process.returncode:
        raise SystemExit(process.returncode)
    if len(seen) < 2:
        raise InputError(f"{log}: the phase took {len(seen)} steps, too few to compare; take more --steps")
    times, spent, held = zip(*seen, strict=True)
    return {"seconds": gaps(times), "cpu": gaps(spent), "rss": [bytes_held / MIB for bytes_held in held]}


def watch(process: psutil.Process, log: Path) -> list[tuple[float, float, float]]:
    """Until the process ends: the time, its processor seconds and its resident bytes when each line was added."""
    seen, size = [], 0
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(POLL_SECONDS)
        if not log.is_file() or log.stat().st_size == size:
            continue
        with process.oneshot():
            used = process.cpu_times()
            found = (time.perf_counter(), used.user + used.system, float(process.memory_info().rss))
        with open(log, "rb") as file:
            file.seek(size)
            data = file.read()
        size += len(data)
        seen += [found] * data.count(b"\n")
    return seen


def gaps(times: tuple[float, ...]) -> list[float]:
    """What lies between each step and the one before; the first step counts as the second."""
    found = [b - a for a, b in pairwise(times)]
    return [found[0], *found]


def row(steps: Steps) -> dict:
    """The second tenth of the steps beside the last, and their ratio."""
    tenth = max(len(steps["rss"]) // 10, 1)
    early = {name: median(values[tenth : 2 * tenth]) for name, values in steps.items()}
    late = {name: median(values[-tenth:]) for name, values in steps.items()}
    found = {name: {"early": early[name], "late": late[name], "ratio": late[name] / early[name]} for name in steps}
    return {"steps": len(steps["rss"])} | {name: rounded(values) for name, values in found.items()}


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in values.items()}


def figure_of(phases: dict[str, Steps]) -> Figure:
    """A panel a measure, a line a phase: medians over a fiftieth of the steps."""
    figure = Figure((10, 3.2), layout="constrained", facecolor="white")
    for axis, (name, label) in zip(figure.subplots(1, len(MEASURES)), MEASURES.items(), strict=True):
        for role, steps in phases.items():
            width = max(len(steps[name]) // 50, 1)
            starts = range(0, len(steps[name]) - width + 1, width)
            axis.plot([at + width / 2 for at in starts], [median(steps[name][at : at + width]) for at in starts])
            axis.lines[-1].set_label(role.replace("_", " "))
        axis.set_ylim(bottom=0)
        axis.set_xlabel("step")
        axis.set_ylabel(label)
    axis.legend(fontsize=8)
    return figure


def bench(run: Path, steps: int) -> dict[str, Steps]:
    longest = {f"{phase}_max_steps": steps for phase in ("pg", "grm", "policy")}
    never = {f"{phase}_plateau": steps + 1 for phase in ("grm", "policy")}
    prepare(run, load_config("configs/tiny.yaml", max_tasks_first=10**9, **SMALLEST, **REST, **longest, **never))
    return {role: play(run, role) for role in ROLES}


def main(args: Namespace) -> None:
    if args.dry_run:
        terminal.tell(f"would take {args.steps} steps in each of the three phases", steps=args.steps)
        return
    with tempfile.TemporaryDirectory() as folder:
        phases = bench(args.run or Path(folder) / "run", args.steps)
    machine = {"cores": os.cpu_count(), "torch": torch.__version__, "python": platform.python_version()}
    found = {"machine": machine, "threads": 1} | {role: row(steps) for role, steps in phases.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "long_phase.json").write_text(json.dumps(found, indent=1) + "\n")
    figure_of(phases).savefig(args.out / "long_phase.svg")
    print(json.dumps(found, indent=1))
