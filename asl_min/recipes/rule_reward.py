"""ASL in which the policy is rewarded by a rule: the exact match with the task's own answer. Tasks are chosen by the
judge."""

from asl_min.episode import Task
from asl_min.recipes import asl


class Recipe(asl.Recipe):
    def policy_key(self, task: Task) -> list[str]:
        return [task.answer]
