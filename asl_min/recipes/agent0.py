"""Agent0 (public code: aiming-lab/Agent0, arXiv 2511.16043), moved to search tasks: R-Zero, and

    task      R-Zero's + 0.05 min(tool calls of the episode that wrote it, 4)
    policy    R-Zero's, advantages times 0.6 to 1 as the attempts agree

Agent0's wider upper clip for uncertain tasks has no effect where, as here, a batch is used for one optimizer step.

Source: arXiv 2511.16043; aiming-lab/Agent0 3cf8bfe:
Agent0/curriculum_train/examples/reward_function/curriculum_reward.py (writer),
Agent0/executor_train/verl_tool/trainer/ppo/core_algos.py (advantages).
Read: code.
Differs: as R-Zero. The code counts tool outputs in the writer's text, here calls of the search tool are counted; the
tool there is a code interpreter. p of an advantage's weight is a share of all attempts, where there it is one of the
answers given.
"""

from collections.abc import Sequence

import numpy as np

from asl_min.episode import Episode, Task
from asl_min.grpo import group_advantages
from asl_min.recipes import r_zero


def weight(hits: Sequence[bool]) -> float:
    """From 0.6 at p = 0.3 to 1 at p = 0.8, p = share of attempts that agree with the majority."""
    p = sum(hits) / len(hits)
    return 0.6 + 0.4 * min(max((p - 0.3) / 0.5, 0.0), 1.0)


class Recipe(r_zero.Recipe):
    def task_rewards(self, tasks: Sequence[Task], episodes: Sequence[Episode]) -> list[float]:
        plain = super().task_rewards(tasks, episodes)
        return [reward + 0.05 * min(episode.n_searches, 4) for reward, episode in zip(plain, episodes, strict=True)]

    def answer_advantages(self, groups: Sequence[list[Episode]], tasks: Sequence[Task]) -> list[np.ndarray]:
        return [weight(task.verdicts) * group_advantages(group) for group, task in zip(groups, tasks, strict=True)]
