"""Agentic Self-Learning as released with `pg_type=rule`: an attempt in phase 1 is right if it contains the task's own
answer (sub-EM), by a rule and without the judge.

    task      H(p) [votes >= verify_threshold],   p = share of attempts that contain the task's answer
    judge     [verdict = whether the attempt contains the task's answer]
    policy    [the judge says correct], as in asl_gen_rm

Source: arXiv 2510.14253; forangel2014/Towards-Agentic-Self-Learning c785786: scripts/exps/asl/asl/rewards/asl3.py.
Read: code.
Differs: as asl_gen_rm.
"""

from collections.abc import Sequence

from asl_min.episode import Task
from asl_min.recipes import asl_gen_rm
from asl_min.rewards import normalize


class Recipe(asl_gen_rm.Recipe):
    def answer_key(self, task: Task) -> list[str]:
        return [task.answer]

    def matches(self, answer: str, key: Sequence[str]) -> bool:
        """Sub-EM of the released code: the normalised answer of the task is a part of the attempt's, not necessarily
        of whole words."""
        return any(normalize(right) and normalize(right) in normalize(answer) for right in key)
