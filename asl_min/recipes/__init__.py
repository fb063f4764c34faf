"""The systems that can be run in the loop, one file each. A recipe says what the phases leave open: how a task is
rewarded and which tasks are kept (phase 1), what the judge learns from (phase 2), how the policy is rewarded (phase 3),
and whose rewards are compared. `recipe: NAME` in a config takes the class `Recipe` of `asl_min/recipes/NAME.py`.
"""

import importlib
import pkgutil
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asl_min import rewards, roles
from asl_min.run.errors import InputError

if TYPE_CHECKING:
    from asl_min.config import Config
    from asl_min.episode import Episode, Task, Triple
    from asl_min.phase import Phase

Verdict = bool | None
"""Of an attempt: right, wrong, or no answer (or a judgment that cannot be read)."""


class Recipe:
    """The methods in the order in which a round calls them. Each has a default, the plainest choice: tasks are not
    voted on, an attempt is right if it matches the task's own answer, there is no judge to train, a group is the
    episodes of one prompt."""

    explains_tasks = False
    """Does a task's reward follow from the task alone? If so, audits compute it again from the logged row."""
    follows_up = True
    """Is the next round asked for harder and easier variants of this round's tasks? If not, for topics again."""
    fresh_samples = 0
    """Tasks a prompt that the writer writes after its last update of the round; they alone are the round's tasks. 0:
    the round's tasks are those that it wrote while it learnt."""

    judge_role = "reward_model"
    """Whose adapter answers the judge's prompt."""
    attempt_rollouts = 1
    """Rollouts that an attempt of the policy phase takes with its verdict; 2 where a judge is asked. How many fresh
    tasks are wanted depends on it."""

    def __init__(self, config: "Config"):
        self.config = config

    def check(self) -> None:
        """Raises `InputError` for settings that the system cannot run with, naming key and value."""
        if self.config.pg_samples < 2:
            raise InputError(f"key 'pg_samples' is {self.config.pg_samples!r}, a group needs at least 2 samples")

    def gold_files(self, round_number: int, role: str) -> list[Path]:
        """The gold files that this phase of this round may read; none in a system without labels."""
        return []

    def labelled_questions(self) -> Path | None:
        """A gold QA set that the policy trains on instead of the round's tasks."""
        return None

    def bonus(self, episode: "Episode") -> float:
        """Added to the reward of every episode of every role, but not to the logged reward."""
        return 0.0

    def judge(self, phase: "Phase", pairs: Sequence[tuple[str, str | None]], *seed_key: object) -> list[Verdict]:
        """Verdicts on (question, answer) pairs where a judge is asked."""
        return roles.judge(phase.agent.as_role(self.judge_role), pairs, *seed_key)

    def matches(self, answer: str, key: Sequence[str]) -> bool:
        """Is an answer right by the key, where there is one?"""
        return rewards.exact_match(answer, key)

    # 1. Prompt Generator phase

    def topic_prompt(self, topic: str, rng: random.Random) -> dict:
        """The meta prompt for a topic; `rng` depends on seed and round."""
        return roles.topic_prompt(topic)

    def accepts(self, task: "Task", episode: "Episode") -> bool:
        """Does a task of the right format count as well-formed? `episode` is the one that wrote it."""
        return True

    def played(
        self, phase: "Phase", tasks: list["Task"], episodes: list["Episode"], *seed_key: object
    ) -> tuple[list["Task"], list["Episode"]]:
        """What else a step plays once its tasks are written, before votes and attempts: the tasks, and for each the
        episode that is rewarded for it, which need not be the one that wrote it."""
        return tasks, episodes

    def votes(self) -> int:
        """Judgments of a task's own answer before it is attempted; 0: none, and every task counts as verified."""
        return 0

    def verified(self, votes: Sequence[bool]) -> bool:
        """Do the votes let the task through? Only asked where there are votes."""
        return True

    def is_attempted(self, task: "Task") -> bool:
        """Does the policy attempt this well-formed task?"""
        return True

    def answer_key(self, task: "Task") -> list[str] | None:
        """The answers that count as right when a new task is attempted; None: the judge says what is right."""
        return [task.answer]

    def task_rewards(self, tasks: Sequence["Task"], episodes: Sequence["Episode"]) -> list[float]:
        """Rewards of the tasks of one step, which these episodes wrote; the bonus comes on top."""
        return [0.0] * len(tasks)

    def task_groups(self, episodes: Sequence["Episode"]) -> list[list["Episode"]]:
        """Task-writing episodes of one step in groups whose rewards are compared."""
        return rewards.by_prompt(episodes, self.config.pg_samples)

    def task_advantages(self, groups: Sequence[list["Episode"]], tasks: Sequence["Task"]) -> list[np.ndarray] | None:
        """Advantages of the writer's episodes, [samples] for each of the groups; None: GRPO's. `tasks` are those of the
        step, in the order of their episodes."""
        return None

    def keeps(self, task: "Task") -> bool:
        """Is the task good enough to be one of the round's?"""
        return task.well_formed

    def chosen(self, tasks: Sequence["Task"], rng: random.Random) -> list[bool]:
        """Which tasks of one step are the round's; repeated questions are dropped afterwards. `rng` depends on seed,
        round and step."""
        return [self.keeps(task) for task in tasks]

    # 2. Generative Reward Model phase

    def label(self, triple: "Triple") -> bool | None:
        """What the judge should have said of an attempt of phase 1; None leaves the attempt out of its data."""
        return None

    # 3. Policy phase

    def batch(self, phase: "Phase", tasks: Sequence["Task"], step: int) -> list["Task"]:
        """The tasks of a step, `policy_prompts` of the round's, which are in random order; all in turn."""
        n = self.config.policy_prompts
        return [tasks[(step * n + i) % len(tasks)] for i in range(n)]

    def temperature(self, phase: "Phase", tasks: Sequence["Task"]) -> float | None:
        """Sampling temperature of the policy's episodes, asked at each step; None: the config's. The update always uses
        the config's, so another one is for recipes whose policy imitates. What it depends on belongs into `phase.rows`,
        from which an interrupted phase goes on."""
        return None

    def policy_key(self, task: "Task", answers: Sequence[str | None]) -> list[str] | None:
        """As `answer_key`, when the policy trains on the task; `answers` are its own at this step."""
        return self.answer_key(task)

    def answer_reward(self, verdict: Verdict) -> float:
        """Reward of an attempt; the bonus comes on top."""
        return rewards.verdict_reward(verdict)

    def answer_groups(self, episodes: Sequence["Episode"]) -> list[list["Episode"]]:
        """The policy's episodes of one step in groups whose rewards are compared."""
        return rewards.by_prompt(episodes, self.config.policy_samples)

    def answer_advantages(self, groups: Sequence[list["Episode"]], tasks: Sequence["Task"]) -> list[np.ndarray] | None:
        """Advantages of the policy's episodes, [samples] for each of the groups; None: GRPO's. `tasks` are those of the
        step, in the order of their episodes."""
        return None


def load(config: "Config") -> Recipe:
    """The config's recipe. Raises `InputError` where there is no such file, or its settings are impossible."""
    name = config.recipe
    known = sorted(module.name for module in pkgutil.iter_modules(__path__))
    if name not in known:
        raise InputError(f"key 'recipe' is {name!r}: no file asl_min/recipes/{name}.py; there are {', '.join(known)}")
    recipe = importlib.import_module(f"{__name__}.{name}").Recipe(config)
    recipe.check()
    if recipe.fresh_samples and not config.round_rollouts:
        raise InputError(
            f"key 'round_rollouts' is 0, but the recipe {name!r} writes fresh tasks for a share of a round's rollouts"
        )
    if config.inject_round and not recipe.gold_files(config.inject_round, "reward_model"):
        raise InputError(
            f"key 'inject_round' is {config.inject_round!r}, but the recipe {name!r} gives its judge no gold"
        )
    return recipe
