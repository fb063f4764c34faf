"""QLoRA beside LoRA on the same weights: the policy phase of one round of a run, from the same adapters and tasks, with
the base in float32 and in nf4.

    python -m reproduce.bench.nf4_phase --run runs/real_smollm2-135m-cold_asl_gen_rm_seed0 --out FILE

Each side is a copy of the run up to the phase, played in processes of its own: seconds and peak memory of the phase,
and its policy's accuracy before and after, on the base that it is trained on. The run itself is not touched.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    start(
        "reproduce.bench.nf4_phase",
        __doc__,
        argument("--run", type=Path, metavar="DIR", required=True, help="a run that has finished the round"),
        argument("--round", type=int, metavar="N", default=1),
        argument("--out", type=Path, metavar="FILE"),
    )

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from asl_min.config import Config, dump_config
from asl_min.run import durable, run_dir, terminal
from asl_min.run.errors import InputError

SIDES = {"float32": None, "nf4": "nf4"}
MEASURES = ("mean", "interval", "sub_em", "f1", "answered")


def copy_up_to_phase(run: Path, number: int, side: Path, config: Config) -> None:
    """The run's rounds before this one and what the round has done before the policy's phase, with this config and
    without evaluations."""
    for n in range(number + 1):
        late = ("evaluation",) if n < number else ("evaluation", "policy")
        folder = f"round_{n:02d}"
        shutil.copytree(run / folder, side / folder, ignore=shutil.ignore_patterns(*late))
    for name in ("prompts.yaml", run_dir.STARTED):
        shutil.copy(run / name, side / name)
    durable.write_text(side / "config.yaml", dump_config(config))


def play(script: str, run: Path, number: int) -> tuple[float, int]:
    """Wall-clock seconds and peak MiB of a script in a process of its own. Raises `InputError` where it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", script, "--run", str(run), "--round", str(number), "--quiet"],
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise InputError(f"{script} --run {run} ended with status {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - start, used.ru_maxrss // 1024


def measure(run: Path, number: int, side: Path, config: Config) -> dict:
    """What one side spends, and its policy's accuracy on the questions of the config, before the phase and after."""
    copy_up_to_phase(run, number, side, config)
    before = accuracy(side, number - 1)
    seconds, mib = play("asl_min.train_policy", side, number)
    done = json.loads((run_dir.phase_dir(side, number, "policy") / run_dir.DONE).read_text())
    spent = {"seconds": round(seconds, 1), "peak_mib": mib, "optimizer_steps": done["optimizer_steps"]}
    return spent | {"before": before, "after": accuracy(side, number)}


def accuracy(side: Path, number: int) -> dict:
    """`MEASURES` after a round, in shares of 1."""
    play("asl_min.evaluate", side, number)
    results = json.loads((run_dir.phase_dir(side, number, "evaluation") / "results.json").read_text())
    return {name: results["accuracy"][name] for name in MEASURES if name in results["accuracy"]}


def main(args: Namespace) -> None:
    config = run_dir.read_config(args.run)
    run_dir.check_round(config, args.round)
    run_dir.require(args.run, args.round, "reward_model")
    if args.dry_run:
        terminal.tell(f"would play the policy's phase of round {args.round} twice", sides=list(SIDES))
        return
    if args.out and not args.out.parent.is_dir():
        raise InputError(f"--out: {args.out.parent}: no such folder")
    found: dict = {"run": args.run.name, "base_model": str(config.base_model), "round": args.round}
    for name, quantization in SIDES.items():
        with tempfile.TemporaryDirectory() as folder:
            sided = replace(config, quantization=quantization, eval_judgments=0, eval_tasks=0, eval_greedy=False)
            found[name] = measure(args.run, args.round, Path(folder), sided)
        terminal.say(f"{name}: {json.dumps(found[name])}", "side", name=name, **found[name])
    if args.out:
        durable.write_text(args.out, json.dumps(found, indent=1))
    terminal.tell(json.dumps(found), **found)
