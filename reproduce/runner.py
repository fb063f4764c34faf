"""Run many bases, arms and seeds, each in a process of its own, and keep their summaries.

    python -m reproduce.runner --profile full|league|real|quick|lr|league_lr [--jobs 2] [--results runs/results]

`full` is what preregistered.yaml names, `league` what preregistered_league.yaml names (with `--system ARM` the same of
one arm), `real` what preregistered_real.yaml names; arms.yaml has the small profiles. The same command continues:
finished runs are skipped, interrupted ones go on after their last finished phase, and what runs have in common is
copied (`reuse.py`). A run lives in `runs/NAME/` (of another profile than full: `runs/PROFILE_NAME/`), its log beside
it; when it is finished its summary is kept in `runs/results/runs/NAME.json` (of another profile:
`runs/results/PROFILE/runs/`), from which claims, tables and figures are made. With `--results reproduce/results` the
recorded runs count as finished, and new ones join the record.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    start(
        "reproduce.runner",
        __doc__,
        argument("--profile", required=True, help="full, league, real or one of arms.yaml"),
        argument("--system", metavar="ARM", help="of the league: this arm alone, named in the file or not"),
        argument("--jobs", type=int, help="runs at a time (default: so many that each of their threads has a core)"),
        argument("--arms", type=Path, metavar="FILE", help="small profiles (default: reproduce/arms.yaml)"),
        argument("--preregistered", type=Path, metavar="FILE", help="default: the profile's own, in reproduce/"),
        argument("--runs", type=Path, metavar="DIR", default=Path("runs"), help="run folders (default: runs)"),
        argument("--results", type=Path, metavar="DIR", help="where summaries are kept (default: runs/results)"),
    )

import os
import signal
import subprocess
import time
from argparse import Namespace
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from asl_min.config import read_yaml
from asl_min.corpus import refuse_no_file
from asl_min.run import terminal
from asl_min.run.errors import InputError
from reproduce import designs
from reproduce.jobs import ROOT, Job, refuse_missing_base, refuse_missing_files
from reproduce.records import run_name
from reproduce.reuse import take_over

ARMS = ROOT / "reproduce" / "arms.yaml"
FULL, LEAGUE, REAL = "full", "league", "real"
DESIGNS = {FULL: designs.FILE, LEAGUE: designs.LEAGUE, REAL: designs.REAL}
"""The profiles that were preregistered."""


def read_profile(file: Path, name: str) -> dict:
    """A small profile as the file has it. Raises `InputError` where it is not there or has another form."""
    refuse_no_file(file)
    profiles = read_yaml(file.read_bytes(), str(file))
    if not isinstance(profiles, dict) or name not in profiles:
        there = ", ".join(map(str, [*(profiles if isinstance(profiles, dict) else ()), *DESIGNS]))
        raise InputError(f"{file}: no profile {name!r}; there are {there}")
    profile, where = profiles[name], f"{file}: profile {name!r}"
    if not isinstance(profile, dict):
        raise InputError(f"{where}: expected keys and values, found {profile!r}")
    if unknown := set(map(str, profile)) - {"bases", "arms", "settings", "variants", "over"}:
        raise InputError(f"{where}: unknown key {min(unknown)!r}")
    profile = {"bases": None, "arms": None, "settings": {}, "variants": {}, "over": None} | profile
    bases, arms, settings, variants = (profile[key] for key in ("bases", "arms", "settings", "variants"))
    if not isinstance(bases, list) or not bases or not all(isinstance(base, str) for base in bases):
        raise InputError(f"{where}: 'bases' must be a list of names, at least one; found {bases!r}")
    if not isinstance(arms, dict) or not arms or not all(type(seeds) is int and seeds > 0 for seeds in arms.values()):
        raise InputError(f"{where}: 'arms' must give each arm its number of seeds, at least one arm; found {arms!r}")
    if not isinstance(settings, dict):
        raise InputError(f"{where}: 'settings' must be keys and values, found {settings!r}")
    if not isinstance(variants, dict) or not all(isinstance(values, dict) for values in variants.values()):
        raise InputError(f"{where}: 'variants' must give each name its keys and values, found {variants!r}")
    if not isinstance(over := profile["over"], str | None):
        raise InputError(f"{where}: 'over' must be a config's path in the repository, found {over!r}")
    return profile


def small_jobs(file: Path, profile: str, runs: Path, results: Path) -> list[Job]:
    """The jobs of a profile of arms.yaml. Raises `InputError` on an unknown profile, key or arm."""
    given = read_profile(file, profile)
    seeds = range(max(given["arms"].values()))
    due = [(arm, seed) for seed in seeds for arm, n in given["arms"].items() if seed < n]
    jobs = []
    for arm, seed in due:
        for base in given["bases"]:
            for variant, values in (given["variants"] or {"runs": {}}).items():
                name = run_name(base, arm, seed)
                place = f"{profile}_{name}" + (f"_{variant}" if given["variants"] else "")
                result = results / profile / str(variant) / f"{name}.json"
                settings = given["settings"] | values
                jobs.append(Job(base, arm, seed, settings, runs / place, result, over=given["over"]))
                jobs[-1].config()
    return jobs


def full_jobs(file: Path, runs: Path, results: Path, profile: str = FULL, system: str | None = None) -> list[Job]:
    """The jobs that a preregistration names, or those of one arm, which it need not name."""
    design, digest, jobs = designs.read(file), designs.digest(file), []
    kept, prefix = (results, "") if profile == FULL else (results / profile, f"{profile}_")
    for base, arm, seed in design.names_of(system) if system else design.names():
        name = run_name(base, arm, seed)
        place, result = runs / f"{prefix}{name}", kept / "runs" / f"{name}.json"
        jobs.append(Job(base, arm, seed, design.config_values(arm), place, result, digest, design.over))
        jobs[-1].config()
    return jobs


def end_by_signal(*_: object) -> None:
    """As Ctrl-C does, so that the runs are ended too."""
    raise SystemExit(143)


def run_all(jobs: list[Job], width: int, console: Console) -> dict[Job, str]:
    """Run what is not finished, `width` processes at a time. Returns the state of every job: "finished" or "failed
    (code)". Raises `InputError` before the first run where a base or a file is missing."""
    states = {job: "finished" if job.is_finished() else "waiting" for job in jobs}
    for job in [job for job in jobs if states[job] == "waiting"]:
        refuse_missing_base(job.base)
        refuse_missing_files(job)
    running: dict[Job, subprocess.Popen] = {}
    start = time.time()
    with Live(table(states, start), console=console, auto_refresh=False) as live:
        try:
            while running or "waiting" in states.values():
                for job in [job for job in jobs if states[job] == "waiting"][: width - len(running)]:
                    take_over(job, jobs)
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
            for process in running.values():
                process.wait()
    return states


def width_of(jobs: list[Job]) -> int:
    """How many runs at a time have a core for each of their threads; 0 where one has not."""
    return (os.cpu_count() or 1) // max(job.config().threads or 1 for job in jobs)


def launch(job: Job) -> subprocess.Popen:
    """The run as a process of one thread, unless its config says otherwise, its output appended to its log."""
    job.run.parent.mkdir(parents=True, exist_ok=True)
    with job.run.with_name(job.run.name + ".log").open("a") as log:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(job.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)


def table(states: dict[Job, str], start: float) -> Table:
    """What runs or failed, a row each, and how many are waiting and finished."""
    done = sum(state == "finished" for state in states.values())
    shown = Table(
        title=f"{done} of {len(states)} runs finished, {(time.time() - start) / 60:.0f} min",
        caption="mean held-out accuracy, %, round by round",
    )
    for name in ("run", "state", "rounds", "accuracy"):
        shown.add_column(name)
    for job, state in states.items():
        if state in ("waiting", "finished"):
            continue
        rows = job.rows()
        scores = [f"{100 * row['accuracy']['mean']:.0f}" for row in rows if row["accuracy"]]
        shown.add_row(job.run.name, state, str(max(len(rows) - 1, 0)), " ".join(scores))
    return shown


def jobs_of(args: Namespace) -> list[Job]:
    results = args.results or Path("runs") / "results"
    if args.system and args.profile != LEAGUE:
        raise InputError(f"--system is {args.system!r}, which only the profile {LEAGUE!r} takes, not {args.profile!r}")
    if args.profile in DESIGNS:
        file = args.preregistered or DESIGNS[args.profile]
        return full_jobs(file, args.runs, results, args.profile, args.system)
    return small_jobs(args.arms or ARMS, args.profile, args.runs, results)


def main(args: Namespace) -> None:
    jobs = jobs_of(args)
    if args.dry_run:
        states = {job.run.name: "finished" if job.is_finished() else "waiting" for job in jobs}
        terminal.tell("\n".join(f"{name}: {state}" for name, state in states.items()), runs=states)
        return
    signal.signal(signal.SIGTERM, end_by_signal)
    states = run_all(jobs, max(args.jobs or width_of(jobs), 1), Console(stderr=True, quiet=terminal.mode != "bar"))
    failed = [job.run for job, state in states.items() if state.startswith("failed")]
    if failed:
        raise SystemExit(f"failed, see the logs: {', '.join(f'{run}.log' for run in failed)}")
    folder = jobs[0].result.parent
    terminal.tell(f"summaries: {folder}", summaries=str(folder), runs={job.run.name: states[job] for job in jobs})
