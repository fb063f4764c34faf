"""A mode of Agentic Self-Learning that was not released: the entropy comes from the judge's verdicts, the judge's
labels from matches.

    task      H(p) [votes >= verify_threshold],   p = mean verdict on the attempts, as in asl_gen_rm
    judge     [verdict = exact match of the attempt with the task's own answer], on verified tasks alone
    policy    [the judge says correct], as in asl_gen_rm

A task that fails the votes is not attempted: it earns 0 anyway, and its answer, mostly wrong, would give wrong labels.

Source: none; a mode of this repository.
Read: -
Differs: -
"""

from asl_min.episode import Task, Triple
from asl_min.recipes import asl_gen_rm


class Recipe(asl_gen_rm.Recipe):
    def is_attempted(self, task: Task) -> bool:
        return task.verified

    def label(self, triple: Triple) -> bool | None:
        return self.matches(triple.answer, [triple.reference]) if triple.verified else None
