"""What `make reproduce` runs: the miniature, from the base model to the report, continuing where it was interrupted.

python -m reproduce.run
python -m reproduce.run --run runs/tiny --seed 1 rounds=2 --dry-run
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import OVERRIDES, argument, start

    TINY = Path(__file__).parents[1] / "configs" / "tiny.yaml"
    config = argument("--config", type=Path, metavar="FILE", default=TINY, help="YAML file (default: the miniature)")
    run = argument("--run", type=Path, metavar="DIR", help="run folder (default: runs/ARM_seedSEED)")
    seed = argument("--seed", type=int, default=0)
    start("reproduce.run", __doc__, config, run, seed, OVERRIDES)

from argparse import Namespace
from pathlib import Path

from asl_min.rounds import run_rounds
from asl_min.run import run_dir, terminal
from asl_min.run.command import config_of, open_run
from asl_min.run.dry_run import plan, tell_plan


def main(args: Namespace) -> None:
    args.overrides = [f"seed={args.seed}", *args.overrides]
    config = config_of(args.config, None, args.overrides)
    args.run = args.run or Path("runs") / f"{config.name}_seed{config.seed}"
    run, config = open_run(args)
    if args.dry_run:
        tell_plan(plan(config, run))
        return
    with run_dir.lock(run):
        summary = run_rounds(run)
    if summary:  # of the main process
        file, accuracy = str(run / "summary.json"), (summary["rounds"][-1]["accuracy"] or {}).get("mean")
        terminal.tell(file, summary=file, rounds=config.rounds, accuracy=accuracy)
