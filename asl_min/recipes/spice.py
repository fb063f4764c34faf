"""SPICE, self-play in corpus environments. No judge, no labels.

    task      exp(-(v - 1/4)^2 / 0.02), v = p (1 - p); malformed -0.1
              p = share of 8 attempts that match the task's own answer
    policy    [match with the task's own answer]

A task whose answer does not occur in a page that its writer read counts as malformed. All others are kept. Advantages
of writer and policy are rewards less their group's mean, not divided by its spread (Dr. GRPO).

Source: arXiv 2510.24684; its code was not to be had. That the reward is a Gaussian of the variance with its peak at
p = 1/2, that malformed tasks get a small negative reward and that advantages are only centred stands in descriptions of
it; the constants 0.02 and -0.1 are from memory.
Read: about it.
Differs: the policy can search, where there the reasoner sees no document. The writer searches for its page, where there
it is given one. It gets ASL's harder / easier prompts from the second round on.
"""

import math
from collections.abc import Sequence

import numpy as np

from asl_min import recipes
from asl_min.episode import Episode, Task


def task_reward(hits: Sequence[bool], well_formed: bool) -> float:
    p = sum(hits) / len(hits) if hits else 0.0
    return math.exp(-((p * (1 - p) - 0.25) ** 2) / 0.02) if well_formed else -0.1


def centred(groups: Sequence[list[Episode]]) -> list[np.ndarray]:
    """Rewards less the group's mean, [samples] for each group."""
    rewards = [np.array([episode.reward for episode in group]) for group in groups]
    return [found - found.mean() for found in rewards]


class Recipe(recipes.Recipe):
    explains_tasks = True

    def accepts(self, task: Task, episode: Episode) -> bool:
        return any(task.answer in response for response in episode.responses)

    def task_rewards(self, tasks: Sequence[Task], episodes: Sequence[Episode]) -> list[float]:
        return [task_reward(task.verdicts, task.well_formed) for task in tasks]

    def task_advantages(self, groups: Sequence[list[Episode]], tasks: Sequence[Task]) -> list[np.ndarray]:
        return centred(groups)

    def answer_advantages(self, groups: Sequence[list[Episode]], tasks: Sequence[Task]) -> list[np.ndarray]:
        return centred(groups)
