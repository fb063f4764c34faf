"""Dr. Zero (public code: facebookresearch/drzero). No judge, no labels.

    task      0.5 format + (n - k) / (n - 1) if 0 < k < n, else 0.5 format     k of n attempts match the task's answer
    policy    [match with the task's own answer], and ASL's bonus for the format

Tasks of reward above 0 are kept. Task-writing episodes of equally many tool calls are compared (HRPO, which groups by
the hops asked for; one episode a prompt). Differs from the source: tasks are not asked for by hops, so the format's
term min((1 + calls) / hops, 1) is left out.
"""

from collections.abc import Sequence

from asl_min import recipes, rewards
from asl_min.episode import Episode, Task
from asl_min.protocol import opens_with_think
from asl_min.rewards import normalize


def task_reward(hits: Sequence[bool], format_score: float) -> float:
    """0.5 format + (n - k) / (n - 1) if 0 < k < n, else 0.5 format; k = right ones of n attempts."""
    n, k = len(hits), sum(hits)
    return 0.5 * format_score + ((n - k) / (n - 1) if 0 < k < n else 0.0)


def format_score(episode: Episode, task: Task) -> float:
    """(1 + share of turns that think + [tool used] + [answer occurs in a tool response]) / 4; the last term is 1/2 for
    an answer of 6 to 10 words and 0 for a longer one. 0 if the task is malformed or gives its answer away."""
    if not task.well_formed or normalize(task.answer) in normalize(task.question):
        return 0.0
    words, read = normalize(task.answer), normalize(" ".join(episode.responses))
    length = len(words.split())
    grounded = (1.0 if length <= 5 else 0.5 if length <= 10 else 0.0) if words and words in read else 0.0
    thinks = sum(opens_with_think(turn.text) for turn in episode.turns) / max(len(episode.turns), 1)
    return (1 + thinks + (episode.n_tool_calls > 0) + grounded) / 4


class Recipe(recipes.Recipe):
    def check(self) -> None:
        """One sample a prompt is enough: groups are made over prompts."""

    def bonus(self, episode: Episode) -> float:
        return rewards.format_bonus(episode) if episode.request.prompt == "policy" else 0.0

    def task_rewards(self, tasks: Sequence[Task], episodes: Sequence[Episode]) -> list[float]:
        return [task_reward(t.verdicts, format_score(e, t)) for t, e in zip(tasks, episodes, strict=True)]

    def task_groups(self, episodes: Sequence[Episode]) -> list[list[Episode]]:
        return [
            [e for e in episodes if e.n_tool_calls == calls] for calls in sorted({e.n_tool_calls for e in episodes})
        ]

    def keeps(self, task: Task) -> bool:
        return task.reward > 0
