"""Dr. Zero (public code: facebookresearch/drzero). No judge, no labels.

    task      0.5 format + (n - k) / (n - 1) if 0 < k < n, else 0.5 format     k of n attempts match the task's answer
    policy    [match with the task's own answer]

Tasks are asked for by hops, 1 to 4 in the ratio 4 : 3 : 2 : 1, one episode a prompt; those asked for equally many hops
are compared (HRPO). A task of format score 0 is not attempted. The trained writer then writes 5 fresh tasks on each
topic, and the one with the best format score is kept, without attempts.

Source: facebookresearch/drzero, as copied in igor53627/drzero 5a35e32: verl/custom_reward/reward_function.py.
Read: code.
Differs: the writer is given a topic and searches for its page, where there it is given a page.
"""

import random
from collections.abc import Sequence

import numpy as np

from asl_min import recipes, roles
from asl_min.episode import Episode, Task
from asl_min.protocol import opens_with_think
from asl_min.rewards import by_prompt, normalize

HOPS, RATIO = (1, 2, 3, 4), (4, 3, 2, 1)


def task_reward(hits: Sequence[bool], format_score: float) -> float:
    """0.5 format + (n - k) / (n - 1) if 0 < k < n, else 0.5 format; k = right ones of n attempts."""
    n, k = len(hits), sum(hits)
    return 0.5 * format_score + ((n - k) / (n - 1) if 0 < k < n else 0.0)


def format_score(episode: Episode, task: Task) -> float:
    """(1 + share of turns that think + searched + grounded) / 4, 0 if the task is malformed or gives its answer away.

    searched: min((1 + calls) / hops asked for, 1); without a call 1 for one hop, else 0. grounded: 1 if the answer
    occurs in a tool response (or is yes or no), 1/2 if it has 6 to 10 words, 0 if it has more.
    """
    if not task.well_formed or gives_away(task):
        return 0.0
    hops, calls = int(episode.request.fields["hops"]), episode.n_searches
    searched = min((1 + calls) / hops, 1.0) if calls else float(hops == 1)
    thinks = sum(opens_with_think(turn.text) for turn in episode.turns) / max(len(episode.turns), 1)
    return (1 + thinks + searched + grounded(task.answer, episode)) / 4


def gives_away(task: Task) -> bool:
    return normalize(task.answer) in normalize(task.question)


def grounded(answer: str, episode: Episode) -> float:
    said, read = normalize(answer), normalize(" ".join(episode.responses))
    if not said or (said not in ("yes", "no") and said not in read):
        return 0.0
    length = len(said.split())
    return 1.0 if length <= 5 else 0.5 if length <= 10 else 0.0


class Recipe(recipes.Recipe):
    follows_up = False
    fresh_samples = 5

    def check(self) -> None:
        """One sample a prompt is enough: groups are made over prompts."""

    def topic_prompt(self, topic: str, rng: random.Random) -> dict:
        return roles.hops_prompt(rng.choices(HOPS, RATIO)[0], topic)

    def is_attempted(self, task: Task) -> bool:
        return not task.fresh and not gives_away(task)

    def task_rewards(self, tasks: Sequence[Task], episodes: Sequence[Episode]) -> list[float]:
        return [task_reward(t.verdicts, format_score(e, t)) for t, e in zip(tasks, episodes, strict=True)]

    def task_groups(self, episodes: Sequence[Episode]) -> list[list[Episode]]:
        asked = [episode.request.fields["hops"] for episode in episodes]
        return [[e for e, h in zip(episodes, asked, strict=True) if h == hops] for hops in sorted(set(asked))]

    def chosen(self, tasks: Sequence[Task], rng: random.Random) -> list[bool]:
        """The best of the fresh tasks of each prompt, the first of equals, if its format score is not 0. Without
        attempts a reward is half of that score."""
        groups = by_prompt(tasks, self.fresh_samples)
        best = [int(np.argmax([task.reward for task in group])) for group in groups]
        return [t.reward > 0 and i == b for group, b in zip(groups, best, strict=True) for i, t in enumerate(group)]
