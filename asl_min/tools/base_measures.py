"""What a base model is like before the loop, as one JSON: its policy, judge and task writer by gold, and what a user
can measure without any labels.

    python -m asl_min.tools.base_measures --base asl_min/world/tiny/bases/b01 --out base.json eval_per_hop=40

By gold, as `evaluate.evaluate_agent` gives them: `accuracy` (macro, hops, strata), `accuracy_greedy`, `sampled`
(pass@k, majority), `grm` (balanced accuracy by hops and kinds, consistency), `pg` (tasks on topics and variants:
well-formed, answerable, own answer right); and `gold.headroom` = pass@n less majority, what sampling finds and the
majority misses.

`label_free`: what `probe.py` measures on `eval_tasks` tasks that the base writes on topics. `base_weights`: SHA-256 of
the base's weights; null where they are not in one file here.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import OVERRIDES, argument, start

    base = argument("--base", metavar="DIR", required=True, help="folder or hub id of the base model")
    out = argument("--out", type=Path, metavar="FILE", required=True, help="JSON file to write")
    start("asl_min.tools.base_measures", __doc__, base, out, OVERRIDES)

import json
import time
from argparse import Namespace
from dataclasses import asdict

from transformers.utils import SAFE_WEIGHTS_NAME

from asl_min.config import Config, check
from asl_min.evaluate import evaluate_agent
from asl_min.phase import Agent
from asl_min.run import durable, terminal
from asl_min.run.command import parse_overrides
from asl_min.run.errors import InputError
from asl_min.run.inputs import check_inputs
from asl_min.tools.probe import drawn_topics, label_free, probe

SIZES = {"eval_per_hop": 40, "eval_samples": 16, "eval_judgments": 200, "eval_tasks": 96}
"""Config values that differ from the defaults, unless overridden: two to three minutes of one core for a tiny base."""


def measure(config: Config) -> dict:
    """All measures of the config's base, by the config's sizes. Raises `InputError` on bad input."""
    start, agent = time.time(), Agent(config, {})
    results, _ = evaluate_agent(agent, config.eval_samples)
    weights = durable.digest(config.path(config.base_model) / SAFE_WEIGHTS_NAME) or None
    found = {"base_model": config.base_model, "base_weights": weights, "config": asdict(config)} | results
    if results["sampled"]:
        best = results["sampled"][f"pass@{config.eval_samples}"]
        found["gold"] = {"headroom": best - results["sampled"]["majority"]}
    return found | {"label_free": label_free_of(agent), "seconds": round(time.time() - start, 1)}


def label_free_of(agent: Agent) -> dict[str, float | None]:
    """The measures without labels, from `eval_tasks` episodes of the task writer on topics drawn at random."""
    config = agent.config
    found = probe(agent, drawn_topics(agent, config.eval_tasks), config.seed, "label free")
    return label_free(found, config.verify_threshold, agent.tool)


def main(args: Namespace) -> None:
    config = check(SIZES | parse_overrides(args.overrides) | {"base_model": args.base}, "command line")
    check_inputs(config)
    if args.out.is_dir() or not args.out.absolute().parent.is_dir():
        raise InputError(f"--out: {args.out}: not a file in a folder that there is")
    if args.dry_run:
        terminal.tell(f"would measure {config.base_model} and write {args.out}", base_model=config.base_model)
        return
    found = measure(config)
    durable.write_text(args.out, json.dumps(found, indent=1))
    terminal.tell(f"{args.out}: written in {found['seconds']:.0f} s", out=str(args.out), label_free=found["label_free"])
