"""What the cold-started model of the real run can do before the loop: its policy, its judge, its task writer.

    python -m reproduce.before_loop --out reproduce/results/real/before.json

Evaluates as a run's round 0 does, greedy too; probes the roles without a label, as `asl-preflight` does; and draws 16
answers to each of some questions. Each part is written when it is done, and the same command goes on after the last.
`reproduce.real` shows the file, parts that are missing left out. Nothing is trained.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import OVERRIDES, argument, start

    start(
        "reproduce.before_loop",
        __doc__,
        argument("--config", type=Path, metavar="FILE", default=Path("configs/smollm2-135m.yaml")),
        argument("--per-hop", type=int, default=20, metavar="N", help="questions a number of hops for the 16 answers"),
        argument("--tasks", type=int, default=96, help="tasks to be written (96)"),
        argument("--out", type=Path, required=True, metavar="FILE"),
        OVERRIDES,
    )

import json
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path

from asl_min.config import Config
from asl_min.evaluate import asked_questions, evaluate_agent, policy_answers
from asl_min.metrics.accuracy import sampled_accuracy
from asl_min.phase import Agent
from asl_min.run import durable, terminal
from asl_min.run.command import config_of
from asl_min.run.errors import InputError
from asl_min.run.inputs import check_inputs
from asl_min.tools.preflight import measure
from asl_min.tools.probe import label_free
from reproduce.jobs import differences

SAMPLES = 16
MINUTES = 60.0
"""Minutes after which no further tasks are written."""


def sampled(agent: Agent, per_hop: int) -> dict:
    """`sampled_accuracy` of `SAMPLES` answers to the first questions of each number of hops."""
    config = agent.config
    questions = asked_questions(replace(config, eval_per_hop=per_hop))
    answers = policy_answers(agent, questions, SAMPLES, 1.0, "sampled")
    return {"questions": len(questions), "samples": SAMPLES} | sampled_accuracy(answers)


def evaluation(agent: Agent) -> dict:
    results, _ = evaluate_agent(agent)
    return {name: results[name] for name in ("accuracy", "accuracy_greedy", "grm")}


def roles(agent: Agent, tasks: int) -> dict:
    """What `asl-preflight` measures on so many tasks."""
    probed, _ = measure(agent, tasks, MINUTES)
    facts = {"asked": probed.asked, "tasks": len(probed.tasks)}
    return facts | label_free(probed, agent.config.verify_threshold, agent.tool)


def before(config: Config, per_hop: int, tasks: int, file: Path) -> None:
    """All of it into the file, in shares of 1 as evaluation and probe give them. Raises `InputError` where the file has
    parts of another config."""
    found = begun(file, config)
    agent = Agent(config, {})
    parts = {
        "accuracy": lambda: evaluation(agent),
        "roles": lambda: {"roles": roles(agent, tasks)},
        "sampled": lambda: {"sampled": sampled(agent, per_hop)},
    }
    for name, part in parts.items():
        if name not in found:
            found |= part()
            durable.write_text(file, json.dumps(found, indent=1) + "\n")


def begun(file: Path, config: Config) -> dict:
    """What the file holds already."""
    if not file.is_file():
        return {"base_model": str(config.base_model), "config": asdict(config)}
    try:
        found = json.loads(file.read_text())
        different = differences(found["config"] | {"base_model": found["base_model"]}, config)
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{file}: not what this command writes; move it away") from None
    for key, (old, new) in different.items():
        raise InputError(f"{file}: measured with {key} = {old!r}, now {new!r}; move it away to measure anew")
    return found


def main(args: Namespace) -> None:
    config = config_of(args.config, None, [*args.overrides, "eval_greedy=true"])
    check_inputs(config)
    if args.out.is_dir():
        raise InputError(f"--out: {args.out} is a folder, not a file")
    if args.dry_run:
        terminal.tell(f"would write {args.out}", files=[str(args.out)])
        return
    args.out.parent.mkdir(parents=True, exist_ok=True)
    before(config, args.per_hop, args.tasks, args.out)
    terminal.tell(str(args.out), files=[str(args.out)])
