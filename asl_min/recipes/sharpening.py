"""A control of this repository: no judge and no labels. The policy learns to agree with itself on the tasks of an
untrained writer, so it can only sharpen what it already does.

    policy    [equal to the majority's answer among the step's attempts at the task]

and ASL's bonus for the format. All well-formed tasks are kept and none is attempted in phase 1. The config freezes the
writer.

Source: none; a control of this repository, after systems that reward a model with its own likelihood.
Read: about them.
Differs: the reward is agreement with the majority, not likelihood; the writer gets ASL's topics and its harder /
easier prompts.
"""

from collections.abc import Sequence

from asl_min import recipes, rewards
from asl_min.episode import Episode, Task


class Recipe(recipes.Recipe):
    def bonus(self, episode: Episode) -> float:
        return rewards.format_bonus(episode)

    def is_attempted(self, task: Task) -> bool:
        return False

    def policy_key(self, task: Task, answers: Sequence[str | None]) -> list[str]:
        return [rewards.majority(answers) or ""]
