"""Agent0 (arXiv 2511.16043), moved to search tasks: R-Zero, and

    task      R-Zero's + 0.05 min(tool calls, 4)
    policy    R-Zero's, advantages times 0.6 to 1 as the attempts agree

Differs from the source: tool calls are the mean number in the attempts at the task. Agent0's wider upper clip for
uncertain tasks has no effect where, as here, a batch is used for one optimizer step.
"""

from collections.abc import Sequence

from asl_min.episode import Episode, Task
from asl_min.recipes import r_zero


def weight(hits: Sequence[bool]) -> float:
    """From 0.6 at p = 0.3 to 1 at p = 0.8, p = share of attempts that agree with the majority."""
    p = sum(hits) / len(hits)
    return 0.6 + 0.4 * min(max((p - 0.3) / 0.5, 0.0), 1.0)


class Recipe(r_zero.Recipe):
    def task_rewards(self, tasks: Sequence[Task], episodes: Sequence[Episode]) -> list[float]:
        plain = super().task_rewards(tasks, episodes)
        return [reward + 0.05 * min(task.tool_calls, 4) for reward, task in zip(plain, tasks, strict=True)]

    def answer_weights(self, tasks: Sequence[Task]) -> list[float]:
        return [weight(task.verdicts) for task in tasks]
