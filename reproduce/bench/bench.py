"""asl_min beside TRL's GRPOTrainer, alternating in one process; medians over pairs and their ratios. On the tiny base,
or with the base, corpus and questions of a config.

    pip install -e '.[bench]'
    python -m reproduce.bench.bench rollout update step accuracy retrieval startup memory --out BENCH.json
    python -m reproduce.bench.bench rollout update --config configs/smollm2-135m.yaml --episodes 128 \\
        --set questions=build/real/validation.jsonl eval_per_hop=5 --out BENCH.json

rollout: multi-turn search episodes a second, 128 and 1024 of them (or `--episodes`). update: one GRPO step on the same
recorded episodes, and the peak memory of each side in a process of its own. step: rollout, gold exact match as the
reward, update. accuracy: seconds of training until held-out accuracy is reached. retrieval: queries a second beside a
plain bm25s loop. startup: seconds of an import. memory: asl_min alone over 200 steps. round: the phases of round 1 by
one process, by two of half the threads, and, with --before, by another checkout of asl_min (such as `git worktree add
../before 2c4dde6`), with the same base and steps. profile: where the seconds of sampling go, and what the machine's
matrix products would take alone. Each bench has a process of its own, so that none sees what another left in memory.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    NAMES = ("rollout", "update", "step", "accuracy", "retrieval", "startup", "memory", "round", "profile")
    start(
        "reproduce.bench.bench",
        __doc__,
        argument("benches", nargs="+", choices=NAMES, metavar="BENCH", help=", ".join(NAMES)),
        argument("--pairs", type=int, default=5, help="alternations (accuracy: seeds)"),
        argument("--episodes", type=int, nargs="+", default=[128, 1024], help="rollout: how many at once"),
        argument("--config", type=Path, metavar="FILE", help="another base, corpus and questions than the defaults"),
        argument("--set", nargs="*", default=[], metavar="key=value", help="values over those of the config"),
        argument("--out", type=Path, help="JSON file; results of other benches in it are kept"),
        argument("--before", type=Path, help="round: folder of another checkout to measure beside"),
    )

import json
import os
import platform
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import torch

from asl_min.config import Config, load_config
from asl_min.run import terminal
from asl_min.run.command import parse_overrides
from reproduce.bench import alone, beside_trl

BENCHES = {
    "rollout": beside_trl.bench_rollout,
    "update": beside_trl.bench_update,
    "step": beside_trl.bench_step,
    "accuracy": beside_trl.bench_accuracy,
    "retrieval": alone.bench_retrieval,
    "startup": beside_trl.bench_startup,
    "memory": alone.bench_memory,
    "round": alone.bench_round,
    "profile": alone.bench_profile,
}


def main(args: Namespace) -> None:
    if args.dry_run:
        terminal.tell(
            f"would measure {', '.join(args.benches)}, {args.pairs} pairs", benches=args.benches, pairs=args.pairs
        )
        return
    if len(args.benches) > 1:
        options = [argument for argument in sys.argv[1:] if argument not in args.benches]
        for name in args.benches:
            subprocess.run([sys.executable, "-m", "reproduce.bench.bench", name, *options], check=True)
        return
    (name,) = args.benches
    machine = {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    values = parse_overrides(args.set)
    config = load_config(args.config, **values) if args.config else Config(**values)
    more = {"round": {"before": args.before}, "rollout": {"sizes": args.episodes}}.get(name, {})
    found = {"machine": machine, "base_model": str(config.base_model)} | BENCHES[name](config, args.pairs, **more)
    print(json.dumps(found, indent=1))
    if args.out:
        old = json.loads(args.out.read_text()) if args.out.is_file() else {}
        args.out.write_text(json.dumps(old | found, indent=1) + "\n")
