"""What a base model is like before the loop, as one JSON: its policy, judge and task writer by gold, and what a user
can measure without any labels.

    python -m asl_min.tools.base_measures --base asl_min/world/tiny/bases/b01 --out base.json eval_per_hop=40

By gold, as `evaluate.evaluate_agent` gives them: `accuracy` (macro, hops, strata), `accuracy_greedy`, `sampled`
(pass@k, majority), `grm` (balanced accuracy by hops and kinds, consistency), `pg` (tasks on topics and variants:
well-formed, answerable, own answer right); and `gold.headroom` = pass@n less majority, what sampling finds and the
majority misses.

`label_free`, on tasks that the base writes on topics itself:

    vote_agreement     share of agreeing pairs among the M votes on a task's own answer
    gate_share         tasks that pass the gate / well-formed tasks
    attempt_agreement  mean share of the K attempts that equal the majority's answer
    entropy            mean H(share of a task's attempts that the judge calls correct), nats
    title_found        searches that bring a page whose title is the query, among all of the attempts
    well_formed        well-formed tasks / episodes that wrote them
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import OVERRIDES, argument, start

    base = argument("--base", metavar="DIR", required=True, help="folder or hub id of the base model")
    out = argument("--out", type=Path, metavar="FILE", required=True, help="JSON file to write")
    start("asl_min.tools.base_measures", __doc__, base, out, OVERRIDES)

import json
import random
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations

import numpy as np

from asl_min import rewards, roles
from asl_min.config import Config, check
from asl_min.corpus import topics
from asl_min.episode import Episode
from asl_min.evaluate import evaluate_agent
from asl_min.metrics.accuracy import agreement
from asl_min.phase import Agent
from asl_min.recipes.asl_gen_rm import entropy
from asl_min.run import durable, terminal
from asl_min.run.command import parse_overrides
from asl_min.run.errors import InputError
from asl_min.run.inputs import check_inputs
from asl_min.search.tool import SearchTool
from asl_min.world.task_quality import mean

SIZES = {"eval_per_hop": 40, "eval_samples": 16, "eval_judgments": 200, "eval_tasks": 96}
"""Config values that differ from the defaults, unless overridden: two to three minutes of one core for a tiny base."""


def measure(config: Config) -> dict:
    """All measures of the config's base, by the config's sizes. Raises `InputError` on bad input."""
    start, agent = time.time(), Agent(config, {})
    results, _ = evaluate_agent(agent, config.eval_samples)
    found = {"base_model": config.base_model, "config": asdict(config)} | results
    if results["sampled"]:
        best = results["sampled"][f"pass@{config.eval_samples}"]
        found["gold"] = {"headroom": best - results["sampled"]["majority"]}
    return found | {"label_free": label_free(agent), "seconds": round(time.time() - start, 1)}


def label_free(agent: Agent) -> dict[str, float | None]:
    """The measures without labels, from `eval_tasks` episodes of the task writer; None where there is nothing to
    measure on."""
    config, key = agent.config, (agent.config.seed, "label free")
    asked = random.Random(config.seed).choices(topics(agent.passages), k=config.eval_tasks)
    requests = roles.task_requests([roles.topic_prompt(topic) for topic in asked], 1, *key)
    tasks = [task for task in map(roles.task_of, agent.rollout("prompt_generator", requests)) if task.well_formed]
    judge, m, k = agent.as_role("reward_model"), config.verify_samples, config.attempts
    own = [(task.question, task.answer) for task in tasks for _ in range(m)]
    votes = rewards.by_prompt([said is True for said in roles.judge(judge, own, *key, "votes")], m) if m else []
    episodes = agent.rollout("policy", roles.solve_requests([task.question for task in tasks], k, *key, "solve"))
    attempts = rewards.by_prompt([roles.answer_of(episode) for episode in episodes], k)
    pairs = [(task.question, answer) for task, said in zip(tasks, attempts, strict=True) for answer in said]
    verdicts = rewards.by_prompt([said is True for said in roles.judge(judge, pairs, *key, "judge")], k)
    return {
        "vote_agreement": mean([a == b for own in votes for a, b in combinations(own, 2)]),
        "gate_share": mean([np.mean(own) >= config.verify_threshold for own in votes]),
        "attempt_agreement": mean([agreement(said) for said in attempts]),
        "entropy": mean([entropy(own) for own in verdicts]),
        "title_found": title_found(episodes, agent.tool),
        "well_formed": len(tasks) / max(len(asked), 1),
    }


def title_found(episodes: Sequence[Episode], tool: SearchTool) -> float | None:
    """Share of the queries of these episodes that bring a page of that title."""
    queries = [query for episode in episodes for turn in episode.turns for query in turn.queries]
    titles = [{page.title.lower() for page in found} for found in (tool.retrieve(queries) if queries else [])]
    return mean([query.lower() in found for query, found in zip(queries, titles, strict=True)])


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
