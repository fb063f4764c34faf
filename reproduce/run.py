"""What `make reproduce` runs: the miniature, from the base model to the report, continuing where it was interrupted.

python -m reproduce.run
python -m reproduce.run --run runs/tiny --seed 1 rounds=2 --dry-run
"""

import argparse
from pathlib import Path

from asl_min.config import load_config
from asl_min.rounds import check_inputs, parse_overrides, prepare, run_rounds
from asl_min.run import run_dir, stopping, terminal
from asl_min.run.dry_run import plan
from asl_min.run.terminal import clear_errors

CONFIG = Path(__file__).parents[1] / "configs" / "tiny.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--run", type=Path, help="run folder (default: runs/RECIPE_seedSEED)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = terminal.parse(parser)
    with clear_errors():
        config = load_config(args.config, **{"seed": args.seed} | parse_overrides(args.overrides))
        run = args.run or Path("runs") / f"{config.name}_seed{config.seed}"
        if args.dry_run:
            check_inputs(config)
            print(plan(config, run))
            return
        prepare(run, config)
        with run_dir.lock(run):
            run_rounds(run)
        stopping.end_processes()


if __name__ == "__main__":
    main()
