"""Does an nf4 base (QLoRA) learn as a float32 one does? Policy steps with gold reward on the tiny base, the same seeds
on both sides, on a CPU.

    python -m reproduce.bench.nf4 --steps 8 --seeds 3 --out reproduce/results/nf4.json

Held-out accuracy (150 questions, temperature 1) before and after the steps; the mean difference between both sides'
log-probabilities before any.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    start(
        "reproduce.bench.nf4",
        __doc__,
        argument("--steps", type=int, default=8),
        argument("--seeds", type=int, default=3),
        argument("--out", type=Path),
    )

import json
import random
import statistics
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import torch

from asl_min.config import load_config
from asl_min.grpo import Scorer
from asl_min.packing import micro_batches
from asl_min.run import terminal
from reproduce.bench.bench import Ours, accuracy_of, splits

CONFIG = Path(__file__).parents[2] / "configs" / "tiny.yaml"
SIDES = (None, "nf4")


def learn(config, steps: int) -> dict:
    ours, rng = Ours(config), random.Random(config.seed)
    rows, held = splits(config)
    found = {
        "before": accuracy_of(ours.agent, held),
        "weights_mib": round(ours.agent.model.get_base_model().get_memory_footprint() / 2**20, 2),
    }
    start = time.perf_counter()
    for _ in range(steps):
        ours.step(rng.sample(rows, config.policy_prompts))
    return found | {"seconds": round(time.perf_counter() - start, 1), "after": accuracy_of(ours.agent, held)}


def quantisation_gap(config) -> float:
    """Mean absolute difference, nats a token, between what nf4 and float32 say of the same sampled episodes."""
    sides = [Ours(replace(config, quantization=side)) for side in SIDES]
    episodes = sides[0].rollout([row["question"] for row in splits(config)[0][:32]], 1)
    (batch,) = micro_batches(episodes, 10**6)
    with torch.no_grad():
        scores = [
            Scorer(side.agent.model, 1.0)(batch.ids, batch.depths, batch.ends, batch.nodes, batch.parents)[0]
            for side in sides
        ]
    return (scores[0] - scores[1]).abs().mean().item()


def main(args: Namespace) -> None:
    if args.dry_run:
        terminal.tell(
            f"would train {args.seeds} seeds for {args.steps} steps in nf4 and in float32",
            seeds=args.seeds,
            steps=args.steps,
        )
        return
    config = load_config(CONFIG, threads=1)
    found: dict = {"steps": args.steps, "gap": round(quantisation_gap(config), 4)}
    for side in SIDES:
        runs = [learn(replace(config, quantization=side, seed=seed), args.steps) for seed in range(args.seeds)]
        found[side or "float32"] = {key: [round(run[key], 3) for run in runs] for key in runs[0]} | {
            "mean_after": statistics.mean(r["after"] for r in runs)
        }
        print(json.dumps({str(side): found[side or "float32"]}), flush=True)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))
