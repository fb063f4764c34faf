"""Before a run: what a model can do on a corpus, without a label, and what the loop is expected to make of it.

    python -m asl_min.tools.preflight --config configs/own_corpus.yaml corpus=my_corpus.jsonl

`base_model=`, `prompts=instruct` and --adapter name another model than the tiny base. It writes tasks on topics of the
corpus, votes on them, attempts them and judges the attempts (`probe.py`), for --minutes at most. From these measures
come the weakest role, what to do about it, and for each arm of the phase diagram the predicted gain (`predict.py`).
Without a phase diagram no gain is predicted. Nothing is trained or written.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import OVERRIDES, above_zero, adapter_folder, argument, start
    from asl_min.run.shipped import DIAGRAM

    start(
        "asl_min.tools.preflight",
        __doc__,
        argument("--config", type=Path, metavar="FILE", required=True, help="YAML file of the run that is planned"),
        argument(
            "--adapter",
            type=adapter_folder,
            metavar="DIR",
            help="a peft adapter on the base model, for all three roles",
        ),
        argument("--diagram", type=Path, metavar="FILE", default=DIAGRAM, help=f"JSON file (default: {DIAGRAM})"),
        argument("--tasks", type=above_zero(int), default=96, help="tasks to be written at most (96)"),
        argument("--minutes", type=above_zero(float), default=10, help="how long this may take (10)"),
        OVERRIDES,
    )

import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from asl_min.config import Config
from asl_min.model import ROLES
from asl_min.phase import Agent
from asl_min.run import terminal
from asl_min.run.command import config_of
from asl_min.run.inputs import check_inputs
from asl_min.run.shipped import shipped
from asl_min.tools.predict import PREDICTORS, Prediction, predictions, read_diagram
from asl_min.tools.probe import Probe, drawn_topics, label_free, probe

BATCH = 8
"""Tasks written at once, after which the time is looked at."""
FEW = 0.3
"""Below this skill a role is likely too weak. Our choice; no run has tested it."""
ADVICE = {
    "task writer": "show it the form of a task (prompts=FILE), cold-start it, or take a larger model",
    "judge": "votes near chance: give it labelled judgments (labelled_judgments, inject_round), or a larger model",
    "policy": "its attempts agree on nothing: cold-start it, give shorter passages (top_k), or take a larger model",
    "search": "its searches miss the page a task came from: raise top_k, or give passages clearer titles",
}
PREDICTED = (
    "predicted from tiny models in the embedded world: gain in held-out accuracy, points, with the 95% interval of a\n"
    "single base"
)
ROW = "  {:<24}{:>6}  {:>16}{:>7}{:>7}{:>7}{:>7}"
HEADING = ROW.format("arm", "gain", "interval", "bases", "rank", "error", "mean")
LEGEND = (
    "checked on the bases of the diagram, each predicted from all others: rank correlation of predicted and measured\n"
    "gain; mean error, points; and the mean error if the others' mean gain is taken instead"
)


def measure(agent: Agent, tasks: int, minutes: float) -> tuple[Probe, float]:
    """Tasks on topics drawn at random, `BATCH` by `BATCH`, until there are `tasks` or another batch would take longer
    than `minutes`; and the seconds that they took."""
    seed, drawn, start = agent.config.seed, drawn_topics(agent, tasks), time.monotonic()
    found, slowest = Probe(), 0.0
    for first in range(0, tasks, BATCH):
        begun = time.monotonic()
        if first and begun - start + slowest > 60 * minutes:
            break
        found += probe(agent, drawn[first : first + BATCH], seed, "preflight", first)
        slowest = max(slowest, time.monotonic() - begun)
        done = {"asked": found.asked, "of": tasks, "well_formed": len(found.tasks)}
        terminal.say(f"{found.asked} of {tasks} tasks, {len(found.tasks)} well-formed", "preflight", **done)
    return found, time.monotonic() - start


def skills(measures: dict[str, float | None], attempts: int) -> dict[str, float]:
    """From 0, what blind chance gives, to 1: how well the roles work, as far as can be seen without a label.

    Task writer: well-formed tasks. Judge: (agreement of votes - 1/2) / (1/2); a judge that always says the same reaches
    1 too, which only labels tell. Policy: (agreement of K attempts - 1/K) / (1 - 1/K). Search: tasks whose attempts
    found the page that the task was made from. What was not measured is left out.
    """
    chance = {"vote_agreement": 0.5, "attempt_agreement": 1 / attempts}
    named = {
        "task writer": "well_formed",
        "judge": "vote_agreement",
        "policy": "attempt_agreement",
        "search": "source_found",
    }
    return {
        role: max(0.0, (measures[name] - chance.get(name, 0.0)) / (1 - chance.get(name, 0.0)))
        for role, name in named.items()
        if measures[name] is not None and chance.get(name) != 1
    }


def advice(found: dict[str, float]) -> tuple[str, str]:
    """The weakest role and what to do about it."""
    weakest = min(found, key=found.get)
    if found[weakest] >= FEW:
        return weakest, "no role is near chance"
    return weakest, ADVICE[weakest]


def predicted(file: Path, rows: list[dict] | None, measures: dict[str, float | None]) -> tuple[list[Prediction], str]:
    """The predictions by the rows of a phase diagram, and why there are none."""
    if rows is None:
        return [], f"no prediction is possible: {file} is missing (it comes with the repository; --diagram names one)"
    found = predictions(rows, measures)
    if found:
        return found, ""
    if None in [measures[name] for name in PREDICTORS.values()]:
        return [], "no prediction is possible: too little was measured (no well-formed task, or no votes)"
    return [], f"no prediction is possible: {file} has too few bases of any arm"


def lines(config: Config, facts: dict, found: Sequence[Prediction], why: str) -> list[str]:
    """The result as text."""
    measures = [
        f"  {name:<18}{'-' if value is None else f'{value:.2f}'}" for name, value in facts["label_free"].items()
    ]
    text = [
        f"{config.base_model} on {config.corpus}: {facts['tasks']} well-formed tasks of {facts['asked']}, "
        f"in {facts['seconds']:.0f} s, {facts['tokens_per_second']:.0f} sampled tokens a second",
        *measures,
        f"weakest role: {facts['weakest']}; {facts['advice']}",
    ]
    if not found:
        return [*text, why]
    outside = sorted({name for prediction in found for name in prediction.outside})
    poor = [prediction.arm for prediction in found if prediction.error >= prediction.error_of_mean]
    if outside:
        text.append(f"beyond every base that was measured, so what follows is an extrapolation: {', '.join(outside)}")
    text += [PREDICTED, HEADING, *map(line, found), LEGEND]
    if poor:
        text.append(f"no better than that mean, so that the prediction tells nothing of this model: {', '.join(poor)}")
    return text


def line(found: Prediction) -> str:
    rank = "-" if found.rank_correlation is None else f"{found.rank_correlation:+.2f}"
    interval = f"{found.low:+.1f} to {found.high:+.1f}"
    errors = f"{found.error:.1f}", f"{found.error_of_mean:.1f}"
    return ROW.format(found.arm, f"{found.gain:+.1f}", interval, found.bases, rank, *errors)


def main(args: Namespace) -> None:
    config = config_of(args.config, None, args.overrides)
    check_inputs(config)
    diagram = read_diagram(file) if (file := shipped(args.diagram)).is_file() else None
    if args.dry_run:
        text = f"would let {config.base_model} write {args.tasks} tasks at most on {config.corpus}"
        terminal.tell(text, base_model=config.base_model, corpus=config.corpus, diagram=str(args.diagram))
        return
    agent = Agent(config, dict.fromkeys(ROLES, args.adapter) if args.adapter else {})
    found, seconds = measure(agent, args.tasks, args.minutes)
    measures = label_free(found, config.verify_threshold, agent.tool)
    weakest, what = advice(skills(measures, config.attempts))
    facts = {"asked": found.asked, "tasks": len(found.tasks), "seconds": round(seconds, 1), "label_free": measures}
    facts |= {"tokens_per_second": agent.budget["tokens"] / seconds, "weakest": weakest, "advice": what}
    by_arm, why = predicted(args.diagram, diagram, measures)
    told = {"predictions": [asdict(prediction) for prediction in by_arm], "no_prediction": why or None}
    terminal.tell("\n".join(lines(config, facts, by_arm, why)), base_model=config.base_model, **facts, **told)
