"""PAE, proposer, agent and evaluator: writer and judge stay as they are, the policy imitates its successes. No labels.

    policy    imitation of its attempts that the judge calls correct, of each task the shortest fifth

All well-formed tasks are kept and none is attempted in phase 1. The length of an attempt is its number of turns. The
config freezes writer and judge.

Source: arXiv 2412.13194; amazon-science/PAE f40715b: pae/algorithms/utils.py (which attempts),
pae/algorithms/filteredbc/trainer.py (the loss), pae/algorithms/onpolicy_train_loop.py.
Read: code.
Differs: the writer sees topics, where there it sees the context of a web site, and is a stronger model, as the judge
is. Attempts of the step alone are imitated, where there those of earlier ones are kept.
"""

from collections.abc import Sequence

import numpy as np

from asl_min import recipes
from asl_min.episode import Episode, Task
from asl_min.rewards import by_prompt


def shortest_right(group: Sequence[Episode]) -> list[Episode]:
    """Of a task's attempts those judged correct with at most as many turns as the shortest fifth of them."""
    right = [episode for episode in group if episode.meta["verdict"] is True]
    most = np.percentile([len(episode.turns) for episode in right], 20) if right else 0
    return [episode for episode in right if len(episode.turns) <= most]


class Recipe(recipes.Recipe):
    follows_up = False

    def is_attempted(self, task: Task) -> bool:
        return False

    def policy_key(self, task: Task, answers: Sequence[str | None]) -> None:
        """None: the judge says what is right."""
        return None

    def answer_groups(self, episodes: Sequence[Episode]) -> list[list[Episode]]:
        return [shortest_right(group) for group in by_prompt(episodes, self.config.policy_samples)]

    def answer_advantages(self, groups: Sequence[list[Episode]], tasks: Sequence[Task]) -> list[np.ndarray]:
        return [np.ones(len(group)) for group in groups]
