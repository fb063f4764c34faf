"""A control of this repository: ASL (mode asl_gen_rm) in which chance says which of the attempted tasks are kept,
as many of a step as ASL would have kept. Their rewards are ASL's."""

import random
from collections.abc import Sequence

from asl_min.episode import Task
from asl_min.recipes import asl_gen_rm


class Recipe(asl_gen_rm.Recipe):
    def chosen(self, tasks: Sequence[Task], rng: random.Random) -> list[bool]:
        attempted = [i for i, task in enumerate(tasks) if task.verdicts]
        lucky = set(rng.sample(attempted, sum(self.keeps(task) for task in tasks)))
        return [i in lucky for i in range(len(tasks))]
