"""What can be measured of an agent without a label: it writes tasks on topics, votes on them, attempts them and judges
the attempts, as in a round, and nothing is trained.

    well_formed        well-formed tasks / episodes that wrote them
    vote_agreement     share of agreeing pairs among the M votes on a task's own answer
    gate_share         tasks that pass the gate / well-formed tasks
    attempt_agreement  mean share of the K attempts that equal the majority's answer
    entropy            mean H(share of a task's attempts that the judge calls correct), nats
    judged_any         tasks of which the judge calls some attempt correct / tasks: pass@K by the judge
    judged_majority    tasks of which it calls the majority's answer correct / tasks
    own_any            tasks of which some attempt equals the writer's own answer / tasks
    own_majority       tasks of which the majority's answer does / tasks
    title_found        searches that bring a page whose title is the query, among all of the attempts
    source_found       tasks of whose attempts some search brought a page of the topic that the task was made from
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Self

import numpy as np

from asl_min import rewards, roles
from asl_min.corpus import topics
from asl_min.episode import Episode, Task
from asl_min.metrics.accuracy import agreement
from asl_min.phase import Agent
from asl_min.recipes.asl_gen_rm import entropy
from asl_min.run.errors import InputError
from asl_min.search.tool import SearchTool
from asl_min.world.task_quality import mean


@dataclass(frozen=True)
class Probe:
    """`asked`: episodes that were to write a task. Of each well-formed task: its votes [M], and its attempts [K] with
    their verdicts; an unreadable verdict counts as wrong."""

    asked: int = 0
    tasks: list[Task] = field(default_factory=list)
    votes: list[list[bool]] = field(default_factory=list)
    attempts: list[list[Episode]] = field(default_factory=list)
    verdicts: list[list[bool]] = field(default_factory=list)

    def __add__(self, other: Self) -> Self:
        lists = ("tasks", "votes", "attempts", "verdicts")
        return Probe(self.asked + other.asked, *(getattr(self, name) + getattr(other, name) for name in lists))


def drawn_topics(agent: Agent, n: int) -> list[str]:
    """So many of the corpus's, with replacement. Raises `InputError` where it has none."""
    if not (titles := topics(agent.passages)):
        raise InputError(f"{agent.config.corpus}: no passage has a title to start from")
    return random.Random(agent.config.seed).choices(titles, k=n)


def probe(agent: Agent, asked_on: Sequence[str], *key: object) -> Probe:
    """One task on each of these topics. `key`: of the seeds."""
    config = agent.config
    requests = roles.task_requests([roles.topic_prompt(topic) for topic in asked_on], 1, *key)
    tasks = [task for task in map(roles.task_of, agent.rollout("prompt_generator", requests)) if task.well_formed]
    judge, m, k = agent.as_role("reward_model"), config.verify_samples, config.attempts
    own = [(task.question, task.answer) for task in tasks for _ in range(m)]
    votes = rewards.by_prompt([said is True for said in roles.judge(judge, own, *key, "votes")], m) if m else []
    episodes = agent.rollout("policy", roles.solve_requests([task.question for task in tasks], k, *key, "solve"))
    attempts = rewards.by_prompt(episodes, k)
    pairs = [(t.question, roles.answer_of(e)) for t, said in zip(tasks, attempts, strict=True) for e in said]
    verdicts = rewards.by_prompt([said is True for said in roles.judge(judge, pairs, *key, "judge")], k)
    return Probe(len(asked_on), tasks, votes, attempts, verdicts)


def label_free(found: Probe, threshold: float, tool: SearchTool) -> dict[str, float | None]:
    """The measures at the top of this file; None where there is nothing to measure on. `threshold`: of the gate."""
    answers = [[roles.answer_of(episode) for episode in own] for own in found.attempts]
    episodes = [episode for own in found.attempts for episode in own]
    return {
        "vote_agreement": mean([a == b for own in found.votes for a, b in combinations(own, 2)]),
        "gate_share": mean([np.mean(own) >= threshold for own in found.votes]),
        "attempt_agreement": mean([agreement(own) for own in answers]),
        "entropy": mean([entropy(own) for own in found.verdicts]),
        "title_found": title_found(episodes, tool),
        "well_formed": len(found.tasks) / max(found.asked, 1),
        "judged_any": mean([any(own) for own in found.verdicts]),
        "judged_majority": mean([judged(*own) for own in zip(answers, found.verdicts, strict=True)]),
        "own_any": mean([any(matches(own, task)) for own, task in zip(answers, found.tasks, strict=True)]),
        "own_majority": mean(
            [matches([rewards.majority(own)], task)[0] for own, task in zip(answers, found.tasks, strict=True)]
        ),
        "source_found": mean([brought(own, task) for own, task in zip(found.attempts, found.tasks, strict=True)]),
    }


def judged(answers: Sequence[str | None], verdicts: Sequence[bool]) -> bool:
    """Does the judge call the majority's answer correct, in most of the attempts that gave it?"""
    most = rewards.majority(answers)
    said = [
        verdict
        for answer, verdict in zip(answers, verdicts, strict=True)
        if answer and rewards.normalize(answer) == rewards.normalize(most)
    ]
    return 2 * sum(said) > len(said)


def matches(answers: Sequence[str | None], task: Task) -> list[bool]:
    """Which answers equal the writer's own."""
    return [rewards.exact_match(answer, [task.answer]) for answer in answers]


def brought(attempts: Sequence[Episode], task: Task) -> bool:
    """Did some search of the attempts bring a page of the task's topic? Pages stand in a response under their title."""
    title = f'"{task.parent["topic"]}"'
    return any(title in response.split("\n") for episode in attempts for response in episode.responses)


def title_found(episodes: Sequence[Episode], tool: SearchTool) -> float | None:
    """Share of the queries of these episodes that bring a page of that title."""
    queries = [query for episode in episodes for turn in episode.turns for query in turn.queries]
    titles = [{page.title.lower() for page in found} for found in (tool.retrieve(queries) if queries else [])]
    return mean([query.lower() in found for query, found in zip(queries, titles, strict=True)])
