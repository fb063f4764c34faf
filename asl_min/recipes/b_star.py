"""B-STaR, balanced self-taught reasoner. A judge without training, no labels.

    policy    imitation of its attempts whose reward is above a threshold; reward: 1 if the judge says correct, else 0

Before each round's first step 8 tasks are attempted 8 times at each temperature. Temperature and threshold of the round
are those with the highest balance score, min(c / 8, 1) c / m, mean over tasks: m distinct attempts are selected, c of
them right, that is equal to the task's own answer. Writer and judge are frozen by the config.

Source: arXiv 2412.17256; hkust-nlp/B-STaR a0f5d95: train_code/determine_hyper.py (the choice),
train_code/train_bstar.sh (temperatures).
Read: code.
Differs: the tasks are an untrained writer's, where there they are a labelled training set; so "right" is a match with
the task's own answer, and the reward is the judge's verdict, where there it is a process reward and the match with the
label. Two thresholds (all attempts; those judged correct) in place of a sweep in steps of 0.01, since the reward has
two values; four temperatures, 8 attempts in place of fifteen and 64. A task with nothing selected scores 0, where there
the label's own solution is always selected. All attempts above the threshold are imitated, where there a number of
distinct ones a query is selected.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from asl_min import recipes, roles
from asl_min.episode import Episode, Task
from asl_min.rewards import by_prompt

if TYPE_CHECKING:
    from asl_min.phase import Phase

TEMPERATURES, THRESHOLDS = (0.6, 0.8, 1.0, 1.2), (-1.0, 0.0)
TASKS, SAMPLES, ENOUGH = 8, 8, 8


def balance_score(right: int, selected: int) -> float:
    """min(c / 8, 1) c / m: enough right ones (exploration), and few wrong ones beside them (exploitation)."""
    return min(right / ENOUGH, 1.0) * right / selected if selected else 0.0


class Recipe(recipes.Recipe):
    follows_up = False
    threshold = 0.0
    """Chosen by `temperature`."""

    def is_attempted(self, task: Task) -> bool:
        return False

    def policy_key(self, task: Task, answers: Sequence[str | None]) -> None:
        """None: the judge says what is rewarded."""
        return None

    def temperature(self, phase: "Phase", tasks: Sequence[Task]) -> float:
        if not phase.rows["choice"]:
            choices = [choice for t in TEMPERATURES for choice in self._scored(phase, tasks[:TASKS], t)]
            phase.add("choice", [max(choices, key=lambda choice: choice["score"])])
        choice = phase.rows["choice"][0]
        self.threshold = choice["threshold"]
        return choice["temperature"]

    def _scored(self, phase: "Phase", tasks: Sequence[Task], temperature: float) -> list[dict]:
        """A row for each threshold."""
        key = (*phase.seed_key, "choice", temperature)
        requests = roles.solve_requests([task.question for task in tasks], SAMPLES, *key)
        groups = by_prompt(phase.agent.rollout("policy", requests, temperature), SAMPLES)
        distinct = [list({tuple(turn.text for turn in e.turns): e for e in group}.values()) for group in groups]
        pairs = [(i, roles.answer_of(e)) for i, group in enumerate(distinct) for e in group]
        said = self.judge(phase, [(tasks[i].question, answer) for i, answer in pairs], *key)
        return [
            {"temperature": temperature, "threshold": threshold, "score": self._balance(tasks, pairs, said, threshold)}
            for threshold in THRESHOLDS
        ]

    def _balance(
        self,
        tasks: Sequence[Task],
        pairs: Sequence[tuple[int, str | None]],
        said: Sequence[recipes.Verdict],
        threshold: float,
    ) -> float:
        """Mean balance score. `pairs`: a task's place and an attempt's answer; `said`: the verdict on it."""
        right, selected = [0] * len(tasks), [0] * len(tasks)
        for (i, answer), verdict in zip(pairs, said, strict=True):
            if self.answer_reward(verdict) > threshold:
                selected[i] += 1
                right[i] += answer is not None and self.matches(answer, [tasks[i].answer])
        return float(np.mean([balance_score(c, m) for c, m in zip(right, selected, strict=True)]))

    def answer_groups(self, episodes: Sequence[Episode]) -> list[list[Episode]]:
        return [[e for e in episodes if self.answer_reward(e.meta["verdict"]) > self.threshold]]

    def answer_advantages(self, groups: Sequence[list[Episode]], tasks: Sequence[Task]) -> list[np.ndarray]:
        return [np.ones(len(group)) for group in groups]
