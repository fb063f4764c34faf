"""SGS, self-guided self-play. A guide without training, no labels.

    task      review (1 - p) if 0 < p <= P, else 0      p = share of 8 attempts that match the task's own answer
    policy    imitation of its right attempts at tasks with 0 < p <= 1/2

P is the 70th percentile of the step's p other than 0 and 1. The writer imitates its tasks with 0 < p <= P, each
weighted by its reward scaled to 0 to 1 over them. The review of a task is the share of the judge's votes on its own
answer; the config freezes the judge.

Source: arXiv 2604.20209; LukeBailey181/sgs 64d2de4: sgs/pipeline/step1_data_gen.py (which tasks),
sgs/pipeline/step2_train.py (weights), scripts/standard_sgs.py (solver on tasks solved at most half of the time).
Read: code.
Differs: there are no target problems, so the guide says whether a task's answer is right, where there it scores how
relevant and how plain a conjecture is for an unsolved one; and the writer gets ASL's topics and harder / easier
prompts, where there it is given unsolved ones. Answers are matched, where there proofs are checked by Lean. The
source's penalties of long proofs are left out. The policy learns from new attempts in a phase of its own, where there
those that gave p train it.
"""

from collections.abc import Sequence

import numpy as np

from asl_min import recipes
from asl_min.episode import Episode, Task


def rate(task: Task) -> float:
    return sum(task.verdicts) / len(task.verdicts) if task.verdicts else 0.0


def teaches(tasks: Sequence[Task]) -> list[bool]:
    """Does the writer learn from each task: is 0 < p <= P?"""
    rates = sorted(p for p in map(rate, tasks) if 0 < p < 1)
    most = rates[int(0.7 * len(rates))] if rates else 0.0
    return [0 < rate(task) <= most for task in tasks]


class Recipe(recipes.Recipe):
    def votes(self) -> int:
        return self.config.verify_samples

    def task_rewards(self, tasks: Sequence[Task], episodes: Sequence[Episode]) -> list[float]:
        reviews = [float(np.mean(task.votes)) if task.votes else 1.0 for task in tasks]
        pairs = zip(tasks, reviews, teaches(tasks), strict=True)
        return [review * (1 - rate(task)) if taught else 0.0 for task, review, taught in pairs]

    def task_groups(self, episodes: Sequence[Episode]) -> list[list[Episode]]:
        return [list(episodes)]

    def task_advantages(self, groups: Sequence[list[Episode]], tasks: Sequence[Task]) -> list[np.ndarray]:
        taught, rewards = np.array(teaches(tasks)), np.array([task.reward for task in tasks])
        least, most = (rewards[taught].min(), rewards[taught].max()) if taught.any() else (0.0, 0.0)
        return [np.where(taught, (rewards - least) / (most - least) if most > least else 1.0, 0.0)]

    def keeps(self, task: Task) -> bool:
        return 0 < rate(task) <= 0.5

    def answer_groups(self, episodes: Sequence[Episode]) -> list[list[Episode]]:
        return [[episode for episode in episodes if episode.meta["verdict"] is True]]

    def answer_advantages(self, groups: Sequence[list[Episode]], tasks: Sequence[Task]) -> list[np.ndarray]:
        return [np.ones(len(group)) for group in groups]
