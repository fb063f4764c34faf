"""Agentic Self-Learning as released with `pg_type=gen_rm` (arXiv 2510.14253): the model judges its own tasks and
answers, and learns to judge from its own verdicts.

    task      H(p) [votes >= verify_threshold],   H(p) = -p ln p - (1 - p) ln(1 - p),   p = mean verdict on the attempts
    judge     [verdict = its own earlier verdict on the attempt]
    policy    [verdict says correct]

and for every role a bonus for the format. Every well-formed task is attempted and judged, since the verdicts are the
judge's data. Tasks of reward above 0 are kept if the question has more than 20 characters and ends in "?". The other
two modes, `asl_rule` and `asl_hybrid`, say only what they do otherwise.

Source: arXiv 2510.14253; forangel2014/Towards-Agentic-Self-Learning c785786: scripts/exps/asl/asl/rewards/asl3.py.
Read: code.
Differs: as docs/paper.md lists; GRPO on adapters in place of PPO, fewer attempts, meta prompts without answers.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from asl_min import recipes, rewards
from asl_min.episode import Episode, Task, Triple


def entropy(verdicts: Sequence[bool]) -> float:
    """H(p) in nats, p = share of attempts judged correct; 0 without attempts. Largest, ln 2, at p = 1/2."""
    p = sum(verdicts) / len(verdicts) if verdicts else 0.0
    return 0.0 if p in (0.0, 1.0) else -p * math.log(p) - (1 - p) * math.log(1 - p)


class Recipe(recipes.Recipe):
    explains_tasks = True

    def gold_files(self, round_number: int, role: str) -> list[Path]:
        """Real verification data, in the round that the config names, if any."""
        injected = role == "reward_model" and round_number == self.config.inject_round
        return [self.config.path(self.config.labelled_judgments)] if injected else []

    def bonus(self, episode: Episode) -> float:
        return rewards.format_bonus(episode)

    def votes(self) -> int:
        return self.config.verify_samples

    def verified(self, votes: Sequence[bool]) -> bool:
        """The verify gate: the share of votes that find the task's own answer correct is at least the threshold."""
        return bool(votes) and sum(votes) / len(votes) >= self.config.verify_threshold

    def answer_key(self, task: Task) -> list[str] | None:
        """None: the judge says what is right."""
        return None

    def task_rewards(self, tasks: Sequence[Task], episodes: Sequence[Episode]) -> list[float]:
        """H(mean verdict) if the gate passes, else 0. A malformed task is never judged and earns 0."""
        return [entropy(task.verdicts) if task.verified else 0.0 for task in tasks]

    def keeps(self, task: Task) -> bool:
        return task.reward > 0 and len(task.question) > 20 and task.question.endswith("?")

    def label(self, triple: Triple) -> bool | None:
        """What was said of the attempt in phase 1."""
        return triple.verdict

    def policy_key(self, task: Task, answers: Sequence[str | None]) -> list[str] | None:
        """None: the judge says what is right."""
        return None
