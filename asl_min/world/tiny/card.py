"""The model card of a base of the population: what it was made with, and what it measures before the loop.

python -m asl_min.world.tiny.card asl_min/world/tiny/bases/b01 --measures reproduce/results/bases/b01.json
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    base = argument("base", type=Path, metavar="DIR", help="folder of the base")
    measures = argument("--measures", type=Path, metavar="FILE", required=True, help="of asl_min.tools.base_measures")
    start("asl_min.world.tiny.card", __doc__, base, measures)

import json
from argparse import Namespace
from pathlib import Path

from asl_min.corpus import refuse_no_file
from asl_min.run import terminal
from asl_min.world.tiny.population import DIALS
from asl_min.world.tiny.train_base import ARCHITECTURE, STAGES, VOCAB_SIZE

CARD = """---
license: apache-2.0
library_name: transformers
tags: [agentic-self-learning, search-agent, tiny]
---
# asl_min tiny base {name}

A Qwen2 model (hidden {hidden_size}, {num_hidden_layers} layers, vocabulary {vocab}) that plays the three roles of \
Agentic Self-Learning, with errors that were drawn by lot: one of the population of bases of
`asl_min/world/tiny/population.yaml`. It imitated a teacher in worlds of invented names, spliced from those of the
*base* half of the embedded world. It has seen nothing of the *target* half, on which these figures were measured, at
temperature 1:

| skill | measured |
|---|---|
| accuracy, macro over relations | {mean:.1%} ({low:.1%} to {high:.1%}) |
| 1 / 2 / 3 / 4 hops | {hops} |
| held-out phrasings / held-out paths | {phrasing:.1%} / {path:.1%} |
| greedy | {greedy:.1%} |
| pass@16 / majority of 16 | {best:.1%} / {majority:.1%} |
| judge: balanced accuracy / consistency | {grm:.1%} / {consistency:.1%} |
| tasks well formed / answerable / own answer right | {well_formed:.1%} / {answerable:.1%} / {right:.1%} |

## The teacher's errors

```
{dials}
```

Rebuild: `make base` (one that ships) or `make population`, {steps} steps of the noise stage from a checkpoint of the
stages before, fixed seeds. Use it for the miniature only: outside pages worded like those of its world it knows
nothing.
"""


def card(base: Path, found: dict) -> str:
    accuracy, pg, sampled = found["accuracy"], found["pg"], found["sampled"]
    low, high = accuracy["interval"]
    return CARD.format(
        **ARCHITECTURE,
        name=base.name,
        vocab=VOCAB_SIZE,
        mean=accuracy["mean"],
        low=low,
        high=high,
        hops=" / ".join(f"{accuracy[f'hop{h}']:.1%}" for h in (1, 2, 3, 4)),
        phrasing=accuracy["held_out_phrasing"],
        path=accuracy["held_out_path"],
        greedy=found["accuracy_greedy"]["mean"],
        best=sampled["pass@16"],
        majority=sampled["majority"],
        grm=found["grm"]["balanced_accuracy"],
        consistency=found["grm"]["consistency"],
        well_formed=pg["well_formed"],
        answerable=pg["answerable"],
        right=pg["right"],
        dials=(base / DIALS).read_text().strip(),
        steps=STAGES["noise"].steps,
    )


def main(args: Namespace) -> None:
    refuse_no_file(args.base / DIALS)
    refuse_no_file(args.measures)
    if args.dry_run:
        terminal.tell(f"would write {args.base / 'README.md'}")
        return
    (args.base / "README.md").write_text(card(args.base, json.loads(args.measures.read_text())))
    terminal.tell(str(args.base / "README.md"))
