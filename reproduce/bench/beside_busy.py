"""How much slower a training phase is beside two busy processes: three steps of the miniature's Prompt Generator, alone
and beside two endless loops in turn, each time in a fresh process.

    python -m reproduce.bench.beside_busy --pairs 3
    python -m reproduce.bench.beside_busy --env OMP_WAIT_POLICY=passive --before ../before

The phase sees no OMP_* or GOMP_* variables but those of --env. `phase` are the seconds that it reports itself,
`process` the wall time of the whole command with its imports; `ratio` is the median over pairs of beside / alone.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    start(
        "reproduce.bench.beside_busy",
        __doc__,
        argument("--pairs", type=int, default=3, help="runs alone and beside, in turn"),
        argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a variable of the phase"),
        argument("--before", type=Path, help="folder of another checkout of asl_min, to measure as well"),
    )

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asl_min.run import terminal

HERE = Path(__file__).parents[2]
BUSY = 2
"""Processes that compute all the time."""
LOOP = "import os; parent = os.getppid()\nwhile os.getppid() == parent: sum(range(100_000))"
"""What they run; it ends with the bench, however that ends."""
SETTINGS = ("rounds=1", "pg_max_steps=3")


def environment(checkout: Path, given: dict[str, str]) -> dict[str, str]:
    """This process's variables without those of OpenMP, and the given ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    return kept | {"PYTHONPATH": str(checkout)} | given


def asl_min(checkout: Path, given: dict[str, str], *arguments: object) -> float:
    """Run `python -m` with these arguments in a checkout; its seconds."""
    start = time.perf_counter()
    command = [sys.executable, "-m", *map(str, arguments), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=checkout, env=environment(checkout, given))
    return time.perf_counter() - start


@contextmanager
def busy(number: int) -> Iterator[None]:
    """Inside, this many processes compute without end."""
    started = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(number)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def measure(checkout: Path, given: dict[str, str], neighbours: int, prepared: Path) -> dict[str, float]:
    """Seconds of one run of the phase, from a copy of a prepared run folder."""
    with tempfile.TemporaryDirectory() as folder, busy(neighbours):
        run = shutil.copytree(prepared, Path(folder) / "run")
        process = asl_min(checkout, given, "asl_min.train_prompt_generator", "--run", run, "--round", 1)
        done = json.loads((run / "round_01" / "prompt_generator" / "done.json").read_text())
        return {"phase": done["seconds"], "process": round(process, 1)}


def bench(checkout: Path, given: dict[str, str], pairs: int) -> dict:
    """Medians of the seconds alone and beside busy processes, and of their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        prepared, config = Path(folder) / "run", checkout / "configs" / "tiny.yaml"
        asl_min(checkout, given, "asl_min.rounds", "--config", config, "--run", prepared, "--prepare", *SETTINGS)
        both = [[measure(checkout, given, neighbours, prepared) for neighbours in (0, BUSY)] for _ in range(pairs)]
    return {part: medians([(alone[part], beside[part]) for alone, beside in both]) for part in ("phase", "process")}


def medians(seconds: list[tuple[float, float]]) -> dict[str, float]:
    """Of pairs of seconds, alone and beside."""
    alone, beside = map(statistics.median, zip(*seconds, strict=True))
    return {"alone": alone, "beside": beside, "ratio": round(statistics.median(b / a for a, b in seconds), 2)}


def main(args: Namespace) -> None:
    if args.dry_run:
        terminal.tell(f"would run a phase {2 * args.pairs} times", pairs=args.pairs)
        return
    given = dict(pair.split("=", 1) for pair in args.env)
    checkouts = {"now": HERE} | ({"before": args.before.resolve()} if args.before else {})
    found = {name: bench(checkout, given, args.pairs) for name, checkout in checkouts.items()}
    print(json.dumps({"cores": os.cpu_count(), "busy": BUSY, "pairs": args.pairs, "env": given} | found, indent=1))
