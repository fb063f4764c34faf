"""SEIF, self-evolving instruction following, moved to search tasks. The policy of the round before judges; no labels.

    task      1 - p if it passes the filter, else 0      p = share of the answers that are judged correct
    policy    [judged correct]

The filter is one judgment of the task's own answer. The trained writer then writes fresh tasks, and those that pass the
filter are the round's. The judge's prompt is answered with the policy's adapter, so the judge is never trained as one.

Source: arXiv 2605.07465; Rainier-rq1/SEIF 608f499: examples/reward_function/instruction_reward.py,
README.md (the loop).
Read: code.
Differs: an instruction there has several constraints, and p is the share of them that one answer follows; here a task
has several attempts. The filter looks for constraints that contradict one another. While the policy learns, its judge
is the policy as it is, where there it stays that of the round before. The writer gets ASL's topics and its harder /
easier prompts, where there it is given seed questions. Both have a KL of 0.01 to what they were when the phase
began.
"""

from collections.abc import Sequence

from asl_min import recipes
from asl_min.episode import Episode, Task


def task_reward(task: Task) -> float:
    """1 - p over the attempts that gave an answer; 0 without one."""
    said = [verdict for verdict, answer in zip(task.verdicts, task.answers, strict=True) if answer]
    return 1 - sum(said) / len(said) if said else 0.0


class Recipe(recipes.Recipe):
    explains_tasks = True
    fresh_samples = 1
    judge_role = "policy"
    attempt_rollouts = 2

    def votes(self) -> int:
        return 1

    def verified(self, votes: Sequence[bool]) -> bool:
        return all(votes)

    def is_attempted(self, task: Task) -> bool:
        return task.verified and not task.fresh

    def answer_key(self, task: Task) -> None:
        """None: the judge says what is right."""
        return None

    def task_rewards(self, tasks: Sequence[Task], episodes: Sequence[Episode]) -> list[float]:
        return [task_reward(task) for task in tasks]

    def keeps(self, task: Task) -> bool:
        return task.verified
