"""Kill a small run again and again, at random moments, and compare what it ends with with a run that nobody touched.

    python -m tests.stress.survive --kills 100 --out reproduce/results/survival.json

Each run is two rounds of `configs/tiny.yaml` with few steps. Its process gets SIGKILL after a random time and is
started again by the same command, until it comes to its end; then every file must hold the same bytes (JSON: the same
values, but for measured seconds) as in the untouched run. Then a new run begins, until there were enough kills.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    start(
        "tests.stress.survive",
        __doc__,
        argument("--kills", type=int, default=100),
        argument("--seed", type=int, default=0),
        argument("--out", type=Path),
    )

import collections
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path

from asl_min.model import ROLES
from asl_min.run import terminal
from asl_min.run.durable import write_text
from asl_min.run.run_dir import is_done
from reproduce.verify import contents

ROOT = Path(__file__).parents[2]
SMALL = {
    **{
        "rounds": 2,
        "pg_prompts": 8,
        "pg_samples": 2,
        "pg_max_steps": 3,
        "attempts": 4,
        "verify_samples": 2,
        "grm_prompts": 4,
        "grm_samples": 2,
    },
    **{
        "grm_max_steps": 2,
        "policy_prompts": 4,
        "policy_samples": 4,
        "policy_max_steps": 2,
        "eval_per_hop": 2,
        "eval_judgments": 4,
        "eval_tasks": 4,
    },
}


def start(run: Path) -> subprocess.Popen:
    settings = [f"{key}={value}" for key, value in SMALL.items()]
    command = [
        sys.executable,
        "-m",
        "asl_min.rounds",
        "--config",
        str(ROOT / "configs" / "tiny.yaml"),
        "--run",
        str(run),
        *settings,
    ]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def where(run: Path) -> str:
    """The phase that was under way."""
    for number in range(SMALL["rounds"] + 1):
        for phase in (*(ROLES if number else ()), "evaluation"):
            if not is_done(run, number, phase):
                return f"round {number}, {phase}"
    return "report"


def same(found: dict[str, object], wanted: dict[str, object]) -> bool:
    """Says which files differ."""
    differing = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
    if differing:
        print("differing:", *differing, file=sys.stderr)
    return not differing


def main(args: Namespace) -> None:
    if args.dry_run:
        terminal.tell(f"would kill a small run {args.kills} times", kills=args.kills)
        return
    rng, killed, runs, equal = random.Random(args.seed), collections.Counter(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        untouched, run = Path(folder) / "untouched", Path(folder) / "run"
        begun = time.time()
        assert start(untouched).wait() == 0
        longest, wanted = time.time() - begun, contents(untouched)
        while killed.total() < args.kills:
            process = start(run)
            try:
                if process.wait(rng.uniform(0, longest)):
                    raise SystemExit(f"the run failed with exit code {process.returncode} after {killed.total()} kills")
                runs, equal = runs + 1, equal + same(contents(run), wanted)
                shutil.rmtree(run)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed[where(run)] += 1
            print(
                f"{killed.total()} kills {dict(killed)}, {runs} runs finished, {equal} equal to the untouched one",
                file=sys.stderr,
            )
        while start(run).wait():
            pass
        runs, equal = runs + 1, equal + same(contents(run), wanted)
    found = {
        "kills": killed.total(),
        "kills_by_phase": dict(sorted(killed.items())),
        "runs": runs,
        "equal": equal,
        "seed": args.seed,
    }
    print(json.dumps(found, indent=1))
    if args.out:
        write_text(args.out, json.dumps(found, indent=1) + "\n")
    raise SystemExit(0 if runs == equal else 1)
