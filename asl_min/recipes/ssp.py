"""SSP, search self-play. No judge, no labels.

    task      1 - p if it is valid, else 0      p = share of 5 attempts that match the task's own answer
    policy    [match with the task's own answer]

A task is valid if its question has at least 10 words and does not hold the answer, its writer made at least two
searches and none twice, and the policy finds the answer among the writer's own pages and 4 pages of other writers of
the step. The writer's reward is its advantage (REINFORCE, one task a prompt); the policy's advantages are GRPO's.

Source: arXiv 2510.18821; Alibaba-Quark/SSP b4797e1: quarl/utils/problem_extraction.py (what is valid),
quarl/trainer/ppo/ssp_ray_trainer.py (rewards), examples/train_ssp.sh (KL 0.01, one task a prompt, 4 pages of noise).
Read: code.
Differs: the writer is given a topic and chooses the answer, where there it is given the answer. That the pages give the
answer is checked by the policy, with a search over these pages, where there another model reads them all. A match is
exact, where there a judge also accepts paraphrases. The policy learns in a phase of its own; a slot without a valid
task is filled by going through the round's tasks again, where there earlier ones are drawn.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from asl_min import recipes, roles
from asl_min.corpus import Passage
from asl_min.episode import Episode, Request, Task, seed_of
from asl_min.search.bm25 import Bm25Search

if TYPE_CHECKING:
    from asl_min.phase import Phase

WORDS, NOISE = 10, 4


def searches(episode: Episode) -> list[str]:
    return [query for turn in episode.turns for query in turn.queries]


class Recipe(recipes.Recipe):
    follows_up = False

    def check(self) -> None:
        """One sample a prompt is enough: tasks are not compared."""

    def accepts(self, task: Task, episode: Episode) -> bool:
        asked = searches(episode)
        given_away = task.answer.lower() in task.question.lower()
        enough = len(task.question.split()) >= WORDS and episode.n_searches > 1
        return enough and not given_away and len(asked) == len(set(asked))

    def played(
        self, phase: "Phase", tasks: list[Task], episodes: list[Episode], *seed_key: object
    ) -> tuple[list[Task], list[Episode]]:
        """A task that the policy cannot answer from the writer's pages and the noise counts as malformed."""
        found = {i: phase.agent.tool.retrieve(searches(episodes[i])) for i, t in enumerate(tasks) if t.well_formed}
        pages = {i: list(dict.fromkeys(page for own in of for page in own)) for i, of in found.items() if any(of)}
        requests = [self._request(i, tasks[i].question, pages, *seed_key) for i in pages]
        answers = map(roles.answer_of, phase.agent.rollout("policy", requests))
        right = {i: a is not None and self.matches(a, [tasks[i].answer]) for i, a in zip(pages, answers, strict=True)}
        return [replace(task, well_formed=right.get(i, False)) for i, task in enumerate(tasks)], episodes

    def _request(self, i: int, question: str, pages: dict[int, list[Passage]], *seed_key: object) -> Request:
        """An attempt that finds nothing but the pages of writer `i` and the noise."""
        seed = seed_of(*seed_key, "pages", i)
        others = sorted({p for j, found in pages.items() if j != i for p in found if p not in pages[i]}, key=repr)
        noise = random.Random(seed).sample(others, min(NOISE, len(others)))
        return Request("policy", {"question": question}, seed, Bm25Search(pages[i] + noise, self.config.top_k))

    def task_rewards(self, tasks: Sequence[Task], episodes: Sequence[Episode]) -> list[float]:
        return [1 - sum(t.verdicts) / len(t.verdicts) if t.verdicts else 0.0 for t in tasks]

    def task_advantages(self, groups: Sequence[list[Episode]], tasks: Sequence[Task]) -> list[np.ndarray]:
        return [np.array([episode.reward for episode in group]) for group in groups]
