"""Run again what was recorded, and compare: `make verify`, the quick profile.

    python -m reproduce.verify [reproduce/results/runs/b01_asl_gen_rm_seed0.json …] [--runs runs]

Each recorded config is run anew (an interrupted check goes on by the same command) and its figures stand beside the
recorded ones. On the machine and with the thread count of the record they are equal to the last digit. Elsewhere float
rounding differs, a sampled token flips here and there, and a run drifts as another seed would: the tolerance of a
figure is four standard deviations between seeds of the same base in the same round, pooled over the bases of the arm
(of all arms where it has no second seed), 2 points at least. Two runs that differ by chance alone lie further apart in
one of 200 figures.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    meaning = "summary.json of a run, or a copy of it (default: those of the quick profile)"
    records = argument("records", type=Path, nargs="*", help=meaning)
    runs = argument(
        "--runs",
        type=Path,
        metavar="DIR",
        default=Path("runs"),
        help="where the new runs' folders are made, verify_NAME (default: runs)",
    )
    start("reproduce.verify", __doc__, records, runs)

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from asl_min.config import check
from asl_min.rounds import run_rounds
from asl_min.run import run_dir, terminal
from asl_min.run.errors import InputError
from asl_min.run.inputs import check_inputs, prepare
from asl_min.tools.table import values
from reproduce.records import RESULTS, Runs, by_arm, compact, read_summaries, read_summary
from reproduce.runner import ARMS, small_jobs

LEFT_OUT = {"report", ".lock", "README.md", run_dir.STARTED}
TIMED = {"started", "files"}
FIGURES = ("mean", "greedy", "GRM", "answerable", "task right")
LEAST = 2.0
ROUNDED = 0.001
"""Points by which equal figures may differ, since a recorded summary is rounded to the fifth digit of a share."""
OUTSIDE = "outside tolerance"


def contents(folder: Path) -> dict[str, object]:
    """All that a run's files say: bytes, or for JSON the values, but for measured seconds (and checksums, which depend
    on these), and without the adapters' cards, which name their folder."""
    found: dict[str, object] = {}
    for path in sorted(
        p
        for p in folder.rglob("*")
        if p.is_file() and p.suffix != ".tmp" and not LEFT_OUT & {*p.relative_to(folder).parts}
    ):
        name = str(path.relative_to(folder))
        if path.suffix == ".jsonl":
            found[name] = [timeless(json.loads(line)) for line in path.read_text().splitlines()]
        else:
            found[name] = timeless(json.loads(path.read_text())) if path.suffix == ".json" else path.read_bytes()
    return found


def timeless(value: object) -> object:
    """JSON without the keys that begin with "seconds", and without "started" and "files"."""
    if isinstance(value, list):
        return [timeless(v) for v in value]
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if not k.startswith("seconds") and k not in TIMED}
    return value


def tolerances(runs: Runs, arm: str) -> dict[str, np.ndarray]:
    """Points by figure and round. Raises `InputError` where no base has two seeds."""
    of_arm = [seeds for seeds in runs.get(arm, {}).values() if len(seeds) > 1]
    several = of_arm or [seeds for bases in runs.values() for seeds in bases.values() if len(seeds) > 1]
    if not several:
        raise InputError(f"{RESULTS / 'runs'}: the tolerances come from bases with two seeds of {arm}; there are none")
    return {name: np.maximum(LEAST, 4 * between_seeds(several, name)) for name in FIGURES}


def between_seeds(several: list[list[dict]], figure: str) -> np.ndarray:
    """Standard deviation between the seeds of a base by round, points: the root of the mean variance over bases."""
    found = [values(seeds, figure).var(axis=0, ddof=1) for seeds in several]
    return np.sqrt(np.mean([variances[: min(map(len, found))] for variances in found], axis=0))


def recorded_runs() -> Runs:
    return by_arm(read_summaries(RESULTS / "runs").values())


def compare(recorded: dict, found: dict, tolerance: dict[str, np.ndarray]) -> tuple[list[tuple], bool]:
    """Rows of (round, figure, recorded, found, tolerance, whether it is within); and whether all are equal."""
    rows = []
    for name in FIGURES:
        for number, (old, new) in enumerate(zip(values([recorded], name)[0], values([found], name)[0], strict=True)):
            allowed = tolerance[name][min(number, len(tolerance[name]) - 1)]
            if np.isfinite(old):
                rows.append((number, name, old, new, allowed, abs(old - new) <= allowed))
    return sorted(rows), all(abs(old - new) < ROUNDED for _, _, old, new, *_ in rows)


def check_record(record: Path, runs: Path) -> None:
    """Raises `InputError` on anything that its check could fail on later."""
    recorded = read_summary(record)
    tolerances(recorded_runs(), recorded["arm"])
    check_inputs(check(recorded["config"], str(record)), run_of(record, runs))


def verify(record: Path, runs: Path) -> str:
    """Runs, shows the comparison and says how it ended."""
    recorded = read_summary(record)
    tolerance = tolerances(recorded_runs(), recorded["arm"])
    run = run_of(record, runs)
    prepare(run, check(recorded["config"], str(record)))
    with run_dir.lock(run):
        rows, equal = compare(recorded, compact(run_rounds(run)), tolerance)
    shown = Table(title=f"{record} and {run}, %")
    for name in ("round", "figure", "recorded", "found", "tolerance", ""):
        shown.add_column(name)
    for number, name, old, new, allowed, fits in rows:
        shown.add_row(str(number), name, f"{old:.1f}", f"{new:.1f}", f"{allowed:.0f}", "" if fits else "OUTSIDE")
    if terminal.mode == "bar":
        Console().print(shown)
    return "equal" if equal else "not equal, within tolerance" if all(row[-1] for row in rows) else OUTSIDE


def main(args: Namespace) -> None:
    records = args.records or [job.result for job in small_jobs(ARMS, "quick", args.runs, RESULTS)]
    for record in records:
        check_record(record, args.runs)
    if args.dry_run:
        runs = {str(record): str(run_of(record, args.runs)) for record in records}
        terminal.tell("\n".join(f"{record}: would be run again in {run}" for record, run in runs.items()), runs=runs)
        return
    ends = {str(record): verify(record, args.runs) for record in records}
    terminal.tell("\n".join(f"{record}: {end}" for record, end in ends.items()), **ends)
    if OUTSIDE in ends.values():
        raise SystemExit(1)


def run_of(record: Path, runs: Path) -> Path:
    return runs / f"verify_{record.stem}"
