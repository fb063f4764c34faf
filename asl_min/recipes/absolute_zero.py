"""Absolute Zero (public code: LeapLabTHU/Absolute-Zero-Reasoner), moved to search tasks. No judge, no labels.

    task      1 - p if 0 < p < 1, else -0.5; malformed -1      p = share of attempts that match the task's own answer
    policy    1 right, -0.5 wrong, -1 no answer

All well-formed tasks are kept. Rewards are compared over the whole step (REINFORCE++ with one type of task).

Source: arXiv 2505.03335; LeapLabTHU/Absolute-Zero-Reasoner a82124e: absolute_zero_reasoner/rewards/reward_managers.py.
Read: code.
Differs: answers are matched, where there programs are run. Updates are GRPO's, and the writer gets ASL's topics and its
harder / easier prompts.
"""

from collections.abc import Sequence

from asl_min import recipes
from asl_min.episode import Episode, Task


def task_reward(hits: Sequence[bool], well_formed: bool) -> float:
    """1 - p if p > 0; in training a reward that is not positive becomes -0.5, and that of a malformed task -1 (the
    code)."""
    p = sum(hits) / len(hits) if hits else 0.0
    return (1 - p if 0 < p < 1 else -0.5) if well_formed else -1.0


class Recipe(recipes.Recipe):
    def task_rewards(self, tasks: Sequence[Task], episodes: Sequence[Episode]) -> list[float]:
        return [task_reward(task.verdicts, task.well_formed) for task in tasks]

    def task_groups(self, episodes: Sequence[Episode]) -> list[list[Episode]]:
        return [list(episodes)]

    def answer_reward(self, verdict: recipes.Verdict) -> float:
        return {True: 1.0, False: -0.5, None: -1.0}[verdict]

    def answer_groups(self, episodes: Sequence[Episode]) -> list[list[Episode]]:
        return [list(episodes)]
