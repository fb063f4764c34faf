"""Agentic Self-Learning (arXiv 2510.14253): the model judges its own tasks and answers, and learns to judge.

    task      H(p) [votes >= verify_threshold],   H(p) = -p ln p - (1 - p) ln(1 - p),   p = mean verdict on the attempts
    judge     [verdict = label]
    policy    [verdict says correct]

and for every role a bonus for the format. Tasks of reward above 0 are kept. `grm_labels` chooses between the released
code's two sources of labels: the judge's own earlier verdict ("self"), or the match with the task's own answer
("reference", the default; a deviation: then a task that fails the votes is not attempted, since its answer is mostly
wrong).
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

    def is_attempted(self, task: Task) -> bool:
        """A task that fails the gate earns 0 whatever its attempts; they are needed where their verdicts are labels."""
        return task.verified or self.config.grm_labels == "self"

    def answer_key(self, task: Task) -> None:
        """The judge says what is right."""

    def task_rewards(self, tasks: Sequence[Task], episodes: Sequence[Episode]) -> list[float]:
        """H(mean verdict) if the gate passes, else 0. A malformed task is never judged and earns 0."""
        return [entropy(task.verdicts) if self.verified(task.votes) else 0.0 for task in tasks]

    def keeps(self, task: Task) -> bool:
        return task.reward > 0

    def label(self, triple: Triple) -> bool | None:
        return triple.verdict if self.config.grm_labels == "self" else super().label(triple)
