"""SQLM, self-questioning language models. No judge, no labels.

    task      1 if 1 < k < n, else 0      k of n attempts give the majority's answer
    policy    [equal to the majority's answer among the step's attempts at the task]

All well-formed tasks are kept. A task that all attempts answer alike is too easy; one with no two alike, too hard.

Source: arXiv 2508.03682; lili-chen/self-questioning-lm fe1dd02: verl/trainer/ppo/ray_trainer.py (writer),
verl/workers/reward_manager/majority.py (solver).
Read: code.
Differs: the writer gets ASL's topics and its harder / easier prompts, where there one prompt names the subject. The
policy learns from attempts of its own phase, where there those that rewarded the writer train it. Eight attempts,
where there 4 are made; the writer learns at each step, where there at every fifth; a malformed task earns 0, where
there it is left out of the update; an attempt without an answer has no vote, where there it has one.
"""

from collections.abc import Sequence

from asl_min import recipes
from asl_min.episode import Episode, Task
from asl_min.rewards import majority


def task_reward(hits: Sequence[bool]) -> float:
    return float(1 < sum(hits) < len(hits))


class Recipe(recipes.Recipe):
    explains_tasks = True

    def answer_key(self, task: Task) -> list[str]:
        return [majority(task.answers) or ""]

    def task_rewards(self, tasks: Sequence[Task], episodes: Sequence[Episode]) -> list[float]:
        return [task_reward(task.verdicts) for task in tasks]

    def policy_key(self, task: Task, answers: Sequence[str | None]) -> list[str]:
        return [majority(answers) or ""]
