"""A control of this repository: ASL (mode asl_gen_rm) in which the policy imitates its own episodes that the judge
calls correct, by supervised learning: every advantage is 1, and there are no negative examples. The config freezes the
judge.

    task      as in asl_gen_rm
    policy    imitation of its attempts that the judge calls correct

Source: none; a control of this repository.
Read: -
Differs: -
"""

from collections.abc import Sequence

import numpy as np

from asl_min.episode import Episode, Task
from asl_min.recipes import asl_gen_rm


class Recipe(asl_gen_rm.Recipe):
    def answer_groups(self, episodes: Sequence[Episode]) -> list[list[Episode]]:
        return [[episode for episode in episodes if episode.meta["verdict"] is True]]

    def answer_advantages(self, groups: Sequence[list[Episode]], tasks: Sequence[Task]) -> list[np.ndarray]:
        return [np.ones(len(group)) for group in groups]
