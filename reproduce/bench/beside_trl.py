"""asl_min beside TRL, alternating in one process: medians over pairs and their ratios. What is compared stands in
bench.py."""

import pickle
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from asl_min.config import Config
from asl_min.evaluate import policy_accuracy
from asl_min.phase import Agent
from reproduce.bench.sides import SIDES, Ours, Trl, splits, summarize, timed

GOAL = 0.55  # mean held-out accuracy at temperature 1
MAX_STEPS = 60


def bench_rollout(config: Config, pairs: int, sizes: Sequence[int]) -> dict:
    ours, theirs, found = Ours(config), Trl(config), {}
    questions = [row["question"] for row in splits(config)[0]]
    for episodes in sizes:
        asked = questions[:: len(questions) // (episodes // 8)][: episodes // 8]
        ours.rollout(asked, 8), theirs.rollout(asked[:8], 8)
        seconds = [
            (timed(lambda a=asked: ours.rollout(a, 8)), timed(lambda a=asked: theirs.rollout(a, 8)))
            for _ in range(pairs)
        ]
        found[f"rollout_{episodes}"] = summarize("episodes/s", len(asked) * 8, *zip(*seconds, strict=True))
    tokens = {
        "asl_min": sum(e.n_sampled for e in ours.rollout(asked, 8)),
        "trl": sum(map(sum, theirs.rollout(asked, 8)["env_mask"])),
    }
    return found | {"sampled_tokens_an_episode": {name: round(n / (len(asked) * 8), 1) for name, n in tokens.items()}}


def bench_update(config: Config, pairs: int) -> dict:
    ours, theirs = Ours(config), Trl(config)
    rows, _ = splits(config)
    groups = recorded_groups(config, ours, rows)
    tokens = sum(len(e.ids) for group in groups for e in group)
    ours.learner.step(groups)
    theirs.train(rows, 1, recorded=groups)
    seconds = [
        (timed(lambda: ours.learner.step(groups)), theirs.train(rows, 1, recorded=groups)[0]) for _ in range(pairs)
    ]
    found = summarize("tokens/s (prompts and responses included)", tokens, *zip(*seconds, strict=True))
    return {"update": found | {"peak_mib": {name: peak_of(name, config, groups) for name in SIDES}}}


def recorded_groups(config: Config, ours: Ours, rows: list[dict]) -> list[list]:
    n = config.policy_samples
    asked = rows[:: len(rows) // config.policy_prompts][: config.policy_prompts]
    episodes = ours.rollout([row["question"] for row in asked], n)
    scored = [
        e.with_reward(float(i % n < n // 2)) for i, e in enumerate(episodes)
    ]  # every group has spread: all of it is trained on
    return [scored[i : i + n] for i in range(0, len(scored), n)]


def peak_of(side: str, config: Config, groups: list[list]) -> int:
    """MiB that three updates on these groups add to a fresh process at their peak."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "groups.pickle"  # our own objects, read back at once
        file.write_bytes(pickle.dumps((config, groups)))
        command = [sys.executable, "-m", "reproduce.bench.peak", side, file]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def bench_step(config: Config, pairs: int) -> dict:
    ours, theirs = Ours(config), Trl(config)
    rows, _ = splits(config)
    n = config.policy_prompts
    ours.step(rows[:n]), theirs.train(rows, 1)
    seconds = [
        (timed(lambda i=i: ours.step(rows[i * n :: len(rows) // n][:n])), theirs.train(rows, 1)[0])
        for i in range(pairs)
    ]
    return {"policy_step": summarize("steps/s", 1, *zip(*seconds, strict=True))}


def bench_accuracy(config: Config, seeds: int) -> dict:
    """Seconds of training, evaluation apart (every second step, by asl_min's rollout on both sides), until `GOAL` is
    reached."""
    runs = [
        (ours_to_goal(replace(config, seed=seed)), trl_to_goal(replace(config, seed=seed))) for seed in range(seeds)
    ]
    ratios = [theirs["seconds"] / ours["seconds"] for ours, theirs in runs]
    sides = {name: list(found) for name, found in zip(SIDES, zip(*runs, strict=True), strict=True)}
    return {
        "time_to_accuracy": {
            "goal": GOAL,
            **sides,
            "ratio": round(statistics.median(ratios), 2),
            "ratios": [round(r, 2) for r in ratios],
        }
    }


def ours_to_goal(config: Config) -> dict:
    rows, held = splits(config)
    ours, rng = Ours(config), random.Random(config.seed)
    seconds = accuracy = 0.0
    for step in range(1, MAX_STEPS + 1):
        batch = rng.sample(rows, config.policy_prompts)
        seconds += timed(lambda batch=batch: ours.step(batch))
        accuracy = accuracy_of(ours.agent, held) if step % 2 == 0 else 0.0
        if accuracy >= GOAL:
            break
    return {"seconds": round(seconds, 1), "steps": step, "accuracy": round(accuracy, 3)}


def trl_to_goal(config: Config) -> dict:
    rows, held = splits(config)
    theirs, judge, found = Trl(config), Agent(config, {}), {}

    def after(step: int, seconds: float) -> bool:
        if step % 2:
            return False
        judge.model.load_state_dict(
            {name: p for name, p in theirs.model.state_dict().items() if "lora_" in name}, strict=False
        )
        found.update(seconds=round(seconds, 1), steps=step, accuracy=round(accuracy_of(judge, held), 3))
        return found["accuracy"] >= GOAL

    theirs.train(rows, MAX_STEPS, after)
    return found


def accuracy_of(agent: Agent, held: list[dict]) -> float:
    return policy_accuracy(agent, held, 1.0)[0]["mean"]


def bench_startup(config: Config, pairs: int) -> dict:
    def imports(module: str) -> float:
        return timed(
            lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True, capture_output=True)
        )

    seconds = [(imports("asl_min.rounds"), imports("trl; from trl import GRPOTrainer")) for _ in range(pairs)]
    return {"import": summarize("imports/s", 1, *zip(*seconds, strict=True))}
