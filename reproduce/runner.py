"""Run many arms and seeds, each in a process of one thread, and keep their summaries.

    python -m reproduce.runner --profile quick|full|lr [--jobs 2] [--results runs/results]

The same command continues: finished runs are skipped, interrupted ones go on after their last finished phase. A run
lives in `runs/NAME/`, its log in `runs/NAME.log`; when it is finished its summary is copied to
`runs/results/runs/NAME.json` (profiles that change settings, such as lr: `runs/results/PROFILE/`), from which claims,
tables and figures are made. With `--results reproduce/results` the recorded runs count as finished, and new ones join
the record.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    import os
    from pathlib import Path

    from asl_min.run.command import argument, start

    start(
        "reproduce.runner",
        __doc__,
        argument("--profile", required=True, help="quick, full or lr"),
        argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time (default: one a core)"),
        argument("--arms", type=Path, metavar="FILE", help="default: reproduce/arms.yaml"),
        argument("--runs", type=Path, metavar="DIR", default=Path("runs"), help="run folders (default: runs)"),
        argument("--results", type=Path, metavar="DIR", help="where summaries are kept (default: runs/results)"),
    )

import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from asl_min.config import Config, load_config, read_yaml
from asl_min.corpus import refuse_no_file
from asl_min.run import terminal
from asl_min.run.durable import write_text
from asl_min.run.errors import InputError
from reproduce.measures import read_summary

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
        return ROOT / "configs" / "arms" / f"{self.arm}.yaml"

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
            asdict(Config()) | read_summary(self.result)["config"],
            asdict(self.config()),
        )
        for key in new:
            if old[key] != new[key]:
                was = f"of a run with {key} = {old[key]!r}, now {new[key]!r}"
                raise InputError(f"{self.result}: {was}; move it away to run the arm again")
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


def read_profile(file: Path, name: str) -> dict:
    """A profile as the file has it. Raises `InputError` where it is not there or has another form."""
    refuse_no_file(file)
    profiles = read_yaml(file.read_bytes(), str(file))
    if not isinstance(profiles, dict) or name not in profiles:
        there = ", ".join(map(str, profiles)) if isinstance(profiles, dict) else "none"
        raise InputError(f"{file}: no profile {name!r}; there are {there}")
    profile, where = profiles[name], f"{file}: profile {name!r}"
    if not isinstance(profile, dict):
        raise InputError(f"{where}: expected keys and values, found {profile!r}")
    if unknown := set(map(str, profile)) - {"arms", "settings", "learning_rates"}:
        raise InputError(f"{where}: unknown key {min(unknown)!r}")
    arms, settings, rates = profile.get("arms"), profile.get("settings", {}), profile.get("learning_rates", [])
    if not isinstance(arms, dict) or not arms or not all(type(seeds) is int and seeds > 0 for seeds in arms.values()):
        raise InputError(f"{where}: 'arms' must give each arm its number of seeds, at least one arm; found {arms!r}")
    if not isinstance(settings, dict):
        raise InputError(f"{where}: 'settings' must be keys and values, found {settings!r}")
    if not isinstance(rates, list) or not all(type(rate) is float for rate in rates):
        raise InputError(f"{where}: 'learning_rates' must be a list of numbers such as 3.0e-4, found {rates!r}")
    return profile


def load_jobs(file: Path, profile: str, runs: Path, results: Path) -> list[Job]:
    """A profile's jobs, seed by seed. Raises `InputError` on an unknown profile, key or recipe."""
    given = read_profile(file, profile)
    wanted = {"settings": {}, "learning_rates": []} | given
    folder = results / (profile if len(given) > 1 else "runs")
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


def main(args: Namespace) -> None:
    jobs = load_jobs(args.arms or ARMS, args.profile, args.runs, args.results or Path("runs") / "results")
    if args.dry_run:
        states = {job.run.name: "finished" if job.is_finished() else "waiting" for job in jobs}
        terminal.tell("\n".join(f"{name}: {state}" for name, state in states.items()), runs=states)
        return
    states = run_all(jobs, max(args.jobs, 1), Console(stderr=True, quiet=terminal.mode != "bar"))
    failed = [job.run for job, state in states.items() if state.startswith("failed")]
    if failed:
        raise SystemExit(f"failed, see the logs: {', '.join(f'{run}.log' for run in failed)}")
    folder = jobs[0].result.parent
    terminal.tell(f"summaries: {folder}", summaries=str(folder), runs={job.run.name: states[job] for job in jobs})
