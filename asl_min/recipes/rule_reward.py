"""ASL (mode asl_gen_rm) in which the policy is rewarded by a rule: the exact match with the task's own answer.
Tasks are chosen by the judge."""

from collections.abc import Sequence

from asl_min.episode import Task
from asl_min.recipes import asl_gen_rm


class Recipe(asl_gen_rm.Recipe):
    def policy_key(self, task: Task, answers: Sequence[str | None]) -> list[str]:
        return [task.answer]
