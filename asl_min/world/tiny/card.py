"""Measure the tiny base on the target half and write its model card. Last step of `make base`:

    python -m asl_min.world.tiny.card

Uses 300 questions a number of hops, all 600 gold judgments (3 samples each) and 512 tasks, at temperature 1, seed 0.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from asl_min.run.command import start

    start(
        "asl_min.world.tiny.card",
        __doc__,
    )

from argparse import Namespace
from dataclasses import fields
from pathlib import Path

from asl_min.config import Config
from asl_min.evaluate import evaluate_agent
from asl_min.phase import Agent
from asl_min.run import terminal
from asl_min.world.tiny.teacher import Noise
from asl_min.world.tiny.train_base import ARCHITECTURE, STAGES, VOCAB_SIZE

CARD = """---
license: apache-2.0
library_name: transformers
tags: [agentic-self-learning, search-agent, tiny]
---
# asl_min tiny base

A Qwen2 model of {parameters:,} parameters (hidden {hidden_size}, {num_hidden_layers} layers, vocabulary {vocab}) \
that plays the three roles of
Agentic Self-Learning, badly on purpose: it imitates a teacher that errs at fixed rates, \
in worlds spliced from the names of the *base*
half of the embedded geography. It has seen nothing of the *target* half, \
on which these figures were measured, at temperature 1:

| skill | measured | accepted |
|---|---|---|
| 1-hop accuracy | {hop1:.1%} | 50-75% |
| 2-hop accuracy | {hop2:.1%} | 15-45% |
| 3-hop accuracy | {hop3:.1%} | below 25% |
| greedy, 1 / 2 / 3 hops | {greedy1:.1%} / {greedy2:.1%} / {greedy3:.1%} | |
| GRM balanced accuracy, 1 and 2 hops | {grm:.1%} | 65-78% |
| GRM, 1 hop / 2 hops | {grm1:.1%} / {grm2:.1%} | lower on 2 |
| GRM on right answers / on intermediate entities | {grm_right:.1%} / {grm_intermediate:.1%} | |
| GRM consistency over 3 samples | {consistency:.1%} | |
| tasks answerable (oracle) | {answerable:.1%} | at least 90% |
| tasks with the right answer | {right:.1%} | at least 65% |
| tasks well formed | {well_formed:.1%} | |
| harder and easier variants: answerable / right | {variants_answerable:.1%} / {variants_right:.1%} | |

{samples}

## The teacher's noise (`asl_min/world/tiny/teacher.py`)

{noise}

## Rebuild

`make base`: {skill} steps from a teacher without errors, {judging} of them mostly judging, \
then {noisy} steps from the noisy one, fixed seeds
(about 45 minutes on two cores), then this card. \
Use it for the loop's miniature only: outside pages worded like those of its world it knows nothing.
"""


def main(args: Namespace) -> None:
    if args.dry_run:
        terminal.tell("would measure the base and write its card")
        return
    config = Config(eval_per_hop=300, eval_judgments=600, eval_tasks=512)
    agent = Agent(config, {})
    results, _ = evaluate_agent(agent)
    accuracy, greedy, grm, pg = (results[key] for key in ("accuracy", "accuracy_greedy", "grm", "pg"))
    noise = "\n".join(f"- `{f.name}` = {getattr(Noise(), f.name)}" for f in fields(Noise))
    low, high = accuracy["interval"]
    text = CARD.format(
        **ARCHITECTURE,
        vocab=VOCAB_SIZE,
        parameters=sum(p.numel() for name, p in agent.model.named_parameters() if "lora_" not in name),
        **{f"hop{h}": accuracy[f"hop{h}"] for h in (1, 2, 3)},
        **{f"greedy{h}": greedy[f"hop{h}"] for h in (1, 2, 3)},
        grm=grm["balanced_accuracy"],
        grm1=grm["hop1"],
        grm2=grm["hop2"],
        grm_right=grm["by_kind"]["right"],
        grm_intermediate=grm["by_kind"]["intermediate"],
        consistency=grm["consistency"],
        answerable=pg["topics"]["answerable"],
        right=pg["topics"]["right"],
        well_formed=pg["well_formed"],
        variants_answerable=pg["variants"]["answerable"],
        variants_right=pg["variants"]["right"],
        samples=f"300 questions a number of hops (mean: {low:.1%} to {high:.1%}), 600 judgments, "
        f"{pg['topics']['n']} tasks; `python -m asl_min.world.tiny.card`.",
        noise=noise,
        skill=STAGES["skill"].steps + STAGES["judge"].steps,
        judging=STAGES["judge"].steps,
        noisy=STAGES["noise"].steps,
    )
    (Path(__file__).parent / "base" / "README.md").write_text(text)
    print(text)
