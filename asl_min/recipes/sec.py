"""SEC, self-evolving curriculum: a bandit chooses which kind of task the policy trains on. No judge, no labels.

    arm       Q <- 1/2 r + 1/2 Q,   r = mean |advantage| of the step's episodes at tasks of this kind, 0 without any
    batch     kinds drawn with probability ~ exp(Q / 0.4)
    policy    [match with the task's own answer]

The kind of a task is the number of hops that its writer was asked for, 1 to 4 equally often. Q starts at 0 in each
round. All well-formed tasks are kept and none is attempted in phase 1; the config freezes the writer.

Source: arXiv 2505.14970; its code as copied in Vincent-La/cofa 8b685cb: sec/verl/verl/utils/auto_curriculum/priority.py
(the bandit), sec/README.md (1/2; 0.4 is that of the experiment on mathematics).
Read: code.
Differs: the tasks are an untrained writer's, matched with its own answers, where there they are labelled problems of
known kinds. Within a kind tasks are drawn with replacement. Q begins anew each round, since its tasks are others.
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from asl_min import recipes, roles
from asl_min.episode import Task, seed_of
from asl_min.grpo import advantages
from asl_min.rewards import verdict_reward

if TYPE_CHECKING:
    from asl_min.phase import Phase

HOPS, RATE, TEMPERATURE = (1, 2, 3, 4), 0.5, 0.4


def kind(task: Task) -> str:
    return task.parent["hops"]


def values_of(kinds: dict[str, str], outcomes: Sequence[dict], prompts: int, samples: int) -> dict[str, float]:
    """Q of each kind, in alphabetical order. `kinds`: by question; `outcomes`: the rows of the phase's steps so far, in
    their order, `prompts` times `samples` of each step."""
    values = dict.fromkeys(sorted(set(kinds.values())), 0.0)
    for start in range(0, len(outcomes), prompts * samples):
        rows = outcomes[start : start + prompts * samples]
        rewards = np.array([verdict_reward(row["verdict"]) for row in rows]).reshape(-1, samples)
        sizes = np.abs(advantages(rewards)).flatten()
        for arm, q in values.items():
            own = [size for row, size in zip(rows, sizes, strict=True) if kinds[row["question"]] == arm]
            values[arm] = (1 - RATE) * q + RATE * (float(np.mean(own)) if own else 0.0)
    return values


class Recipe(recipes.Recipe):
    follows_up = False

    def topic_prompt(self, topic: str, rng: random.Random) -> dict:
        return roles.hops_prompt(rng.choice(HOPS), topic)

    def is_attempted(self, task: Task) -> bool:
        return False

    def batch(self, phase: "Phase", tasks: Sequence[Task], step: int) -> list[Task]:
        kinds = {task.question: kind(task) for task in tasks}
        config = self.config
        values = values_of(kinds, phase.rows["outcomes"], config.policy_prompts, config.policy_samples)
        weights = [np.exp(q / TEMPERATURE) for q in values.values()]
        rng = random.Random(seed_of(*phase.seed_key, step, "batch"))
        arms = rng.choices(list(values), weights, k=config.policy_prompts)
        return [rng.choice([task for task in tasks if kind(task) == arm]) for arm in arms]
