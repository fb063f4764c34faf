"""Run many arms and seeds, each in a process of one thread, and keep their summaries.

    python -m reproduce.runner --profile quick|full|lr [--jobs 2] [--results runs/results]

The same command continues: finished runs are skipped, interrupted ones go on after their last finished phase. A run
lives in `runs/NAME/`, its log in `runs/NAME.log`; when it is finished its summary is copied to
`runs/results/runs/NAME.json` (profiles that change settings, such as lr: `runs/results/PROFILE/`), from which claims,
tables and figures are made. With `--results reproduce/results` the recorded runs count as finished, and new ones join
the record.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from rich.console import Console
from rich.live import Live
from rich.table import Table

from asl_min.config import Config, load_config
from asl_min.run.durable import write_text
from asl_min.run.errors import InputError
from asl_min.run.old_names import upgrade_config
from asl_min.run.terminal import clear_errors

ROOT = Path(__file__).parents[1]
ARMS = ROOT / "reproduce" / "arms.yaml"


@dataclass(frozen=True)
class Job:
    """One run: a recipe, a seed, and config values set by the profile, under names of their own in the two folders."""

    arm: str
    seed: int
    settings: tuple[tuple[str, object], ...]
    run: Path
    result: Path

    @property
    def recipe(self) -> Path:
        return ROOT / "configs" / "recipes" / f"{self.arm}.yaml"

    @property
    def overrides(self) -> dict[str, object]:
        return {"seed": self.seed} | dict(self.settings)

    def config(self) -> Config:
        return load_config(self.recipe, **self.overrides)

    def command(self) -> list[str]:
        settings = [f"{key}={json.dumps(value)}" for key, value in self.overrides.items()]
        return [sys.executable, "-m", "asl_min.rounds", "--config", str(self.recipe), "--run", str(self.run), *settings]

    def is_finished(self) -> bool:
        """Is its summary kept? Raises `InputError` where the kept one is of other settings."""
        if not self.result.is_file():
            return False
        old, new = (
            asdict(Config()) | upgrade_config(json.loads(self.result.read_text())["config"]),
            asdict(self.config()),
        )
        for key in new:
            if old[key] != new[key]:
                raise InputError(
                    f"{self.result}: of a run with {key} = {old[key]!r}, now {new[key]!r}; "
                    "move it away to run the arm again"
                )
        return True

    def rows(self) -> list[dict]:
        """The rounds evaluated so far, entry 0 the base."""
        files = [file for file in (self.result, self.run / "summary.json") if file.is_file()]
        return json.loads(files[0].read_text())["rounds"] if files else []

    def keep(self) -> None:
        """Copy the summary of the finished run, numbers to 5 digits."""
        self.result.parent.mkdir(parents=True, exist_ok=True)
        summary = json.loads(
            (self.run / "summary.json").read_text(), parse_float=lambda text: float(f"{float(text):.5g}")
        )
        write_text(self.result, json.dumps(summary, indent=1) + "\n")


def load_jobs(file: Path, profile: str, runs: Path, results: Path) -> list[Job]:
    """A profile's jobs, seed by seed. Raises `InputError` on an unknown profile, key or recipe."""
    profiles = yaml.safe_load(file.read_text())
    if profile not in profiles:
        raise InputError(f"{file}: no profile {profile!r}; there are {', '.join(profiles)}")
    wanted = {"settings": {}, "learning_rates": []} | profiles[profile]
    if unknown := set(wanted) - {"arms", "settings", "learning_rates"}:
        raise InputError(f"{file}: profile {profile!r}: unknown key {sorted(unknown)[0]!r}")
    folder = results / (profile if len(profiles[profile]) > 1 else "runs")
    jobs = []
    for seed in range(max(wanted["arms"].values())):
        for arm in (arm for arm, seeds in wanted["arms"].items() if seed < seeds):
            for rate in wanted["learning_rates"] or [None]:
                name = f"{arm}_seed{seed}" + (f"_lr{rate:g}" if rate else "")
                settings = tuple((wanted["settings"] | ({"learning_rate": rate} if rate else {})).items())
                jobs.append(
                    Job(
                        arm,
                        seed,
                        settings,
                        runs / (name if folder.name == "runs" else f"{profile}_{name}"),
                        folder / f"{name}.json",
                    )
                )
                jobs[-1].config()
    return jobs


def run_all(jobs: list[Job], width: int, console: Console) -> dict[Job, str]:
    """Run what is not finished, `width` processes at a time. Returns the state of every job: "finished" or "failed
    (code)"."""
    states = {job: "finished" if job.is_finished() else "waiting" for job in jobs}
    running: dict[Job, subprocess.Popen] = {}
    start = time.time()
    with Live(table(states, start), console=console, auto_refresh=False) as live:
        try:
            while running or "waiting" in states.values():
                for job in [job for job in jobs if states[job] == "waiting"][: width - len(running)]:
                    running[job], states[job] = launch(job), "running"
                for job in [job for job, process in running.items() if process.poll() is not None]:
                    code = running.pop(job).returncode
                    states[job] = f"failed ({code})" if code else "finished"
                    if not code:
                        job.keep()
                    live.console.print(f"{job.run.name}: {states[job]}")
                live.update(table(states, start), refresh=True)
                time.sleep(0.5)
        finally:
            for process in running.values():
                process.terminate()
    return states


def launch(job: Job) -> subprocess.Popen:
    """The run as a process of one thread, its output appended to its log."""
    job.run.parent.mkdir(parents=True, exist_ok=True)
    with job.run.with_name(job.run.name + ".log").open("a") as log:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(job.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)


def table(states: dict[Job, str], start: float) -> Table:
    done = sum(state == "finished" for state in states.values())
    shown = Table(
        title=f"{done} of {len(states)} runs finished, {(time.time() - start) / 60:.0f} min",
        caption="mean held-out accuracy, %, round by round",
    )
    for name in ("run", "state", "rounds", "accuracy"):
        shown.add_column(name)
    for job, state in sorted(
        states.items(), key=lambda item: ("running", "failed", "waiting", "finished").index(item[1].split()[0])
    ):
        rows = job.rows() if state != "waiting" else []
        scores = [f"{100 * row['accuracy']['mean']:.0f}" for row in rows if row["accuracy"]]
        shown.add_row(job.run.name, state, str(max(len(rows) - 1, 0)), " ".join(scores))
    return shown


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", required=True)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time (default: one a core)")
    parser.add_argument("--arms", type=Path, default=ARMS)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("runs") / "results",
        help="where summaries are kept (default: runs/results)",
    )
    args = parser.parse_args(arguments)
    with clear_errors():
        jobs = load_jobs(args.arms, args.profile, args.runs, args.results)
        states = run_all(jobs, max(args.jobs, 1), Console(stderr=True))
    failed = [job.run for job, state in states.items() if state.startswith("failed")]
    if failed:
        raise SystemExit(f"failed, see the logs: {', '.join(f'{run}.log' for run in failed)}")
    print(f"summaries: {jobs[0].result.parent}")


if __name__ == "__main__":
    main()
