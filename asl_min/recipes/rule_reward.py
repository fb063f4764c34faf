"""ASL (the mode asl_hybrid) in which the policy is rewarded by a rule: the exact match with the task's own answer.
Tasks are chosen by the judge."""

from collections.abc import Sequence

from asl_min.episode import Task
from asl_min.recipes import asl_hybrid


class Recipe(asl_hybrid.Recipe):
    def policy_key(self, task: Task, answers: Sequence[str | None]) -> list[str]:
        return [task.answer]
