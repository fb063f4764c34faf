"""What the systems beside ASL do differently in the same loop: rewards of task writer and solver, choice of tasks,
baselines of advantages.

In all of them v_1..v_K say whether an attempt matches an answer, and no model judges: the task's own answer (Absolute
Zero, Dr. Zero, the rule-reward arm), the attempts' majority (R-Zero, Agent0) or a gold answer (Search-R1). p = mean v.
As in the rest of the loop, updates are GRPO's, the task writer gets ASL's topics and harder / easier prompts, and a
round's tasks are collected while it learns.

Sources: the public code of Absolute Zero (LeapLabTHU/Absolute-Zero-Reasoner), R-Zero (Chengsong-Huang/R-Zero), Dr. Zero
(facebookresearch/drzero), Search-R1 (PeterGriffinJin/Search-R1) and the paper of Agent0 (arXiv 2511.16043).
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from asl_min.episode import Episode
from asl_min.protocol import opens_with_think
from asl_min.rewards import exact_match, normalize

MAJORITY = ("r_zero", "agent0")


def target(task: dict, method: str) -> list[str]:
    """The answers that count as right under a reward that is a match: gold ones, the majority's, or the task's own."""
    if method == "gold":
        return task["golden_answers"]
    return [majority(task["answers"]) if method in MAJORITY else task["answer"]]


def majority(answers: Sequence[str | None]) -> str:
    """The most frequent normalised answer, the first of equals; empty if nobody answered."""
    said = Counter(normalize(answer) for answer in answers if answer)
    return said.most_common(1)[0][0] if said else ""


def verdicts(answers: Sequence[str | None], right: Sequence[str]) -> list[bool | None]:
    """Does each attempt match one of the `right` answers (as normalised, see `rewards.exact_match`); None where there is no
    answer."""
    return [exact_match(answer, right) if answer else None for answer in answers]


# --- the task writer


def absolute_zero_task(hits: Sequence[bool], well_formed: bool) -> float:
    """1 - p if p > 0; in training a reward that is not positive becomes -0.5, and that of a malformed task -1 (the
    code)."""
    p = sum(hits) / len(hits) if hits else 0.0
    return (1 - p if 0 < p < 1 else -0.5) if well_formed else -1.0


def r_zero_task(hits: Sequence[bool], well_formed: bool, share: float) -> float:
    """min(p, 1 - p) - share of the batch in the task's cluster, -1 for the first term of a malformed task.

    The code's; the paper's 1 - 2 |p - 1/2| - share weighs the penalty half as much.
    """
    p = sum(hits) / len(hits) if hits else 0.0
    return (min(p, 1 - p) if well_formed else -1.0) - share


def drzero_task(hits: Sequence[bool], format_score: float) -> float:
    """0.5 format + (n - k) / (n - 1) if 0 < k < n, else 0.5 format; k = right ones of n attempts."""
    n, k = len(hits), sum(hits)
    return 0.5 * format_score + ((n - k) / (n - 1) if 0 < k < n else 0.0)


def drzero_format(episode: Episode, task: dict | None) -> float:
    """(1 + share of turns that think + [tool used] + [answer stands in a tool response, 1/2 if over 5 words]) / 4; 0 if
    the task is malformed or gives its answer away. The code's, but for its term min((1 + calls) / hops, 1), as tasks
    here are not asked for by hops."""
    if task is None or normalize(task["answer"]) in normalize(task["question"]):
        return 0.0
    words, read = normalize(task["answer"]), normalize(" ".join(turn.response or "" for turn in episode.turns))
    grounded = (
        (1.0 if len(words.split()) <= 5 else 0.5 if len(words.split()) <= 10 else 0.0)
        if words and words in read
        else 0.0
    )
    thinks = sum(opens_with_think(turn.text) for turn in episode.turns) / max(len(episode.turns), 1)
    return (1 + thinks + (episode.n_tool_calls > 0) + grounded) / 4


def agent0_task(hits: Sequence[bool], well_formed: bool, share: float, tool_calls: float) -> float:
    """R-Zero's reward + 0.05 min(tool calls, 4), the mean number of calls in the attempts."""
    return r_zero_task(hits, well_formed, share) + 0.05 * min(tool_calls, 4)


def task_rewards(method: str, drafts: Sequence[dict], episodes: Sequence[Episode]) -> list[float]:
    """The rewards of a step's drafts, written in these episodes, under one of the methods above."""
    shares = cluster_shares([draft["question"] or "" for draft in drafts]) if method in MAJORITY else []
    rewards = []
    for i, (draft, episode) in enumerate(zip(drafts, episodes, strict=True)):
        hits, formed = draft["verdicts"], draft["well_formed"]
        if method == "absolute_zero":
            rewards.append(absolute_zero_task(hits, formed))
        elif method == "r_zero":
            rewards.append(r_zero_task(hits, formed, shares[i]))
        elif method == "agent0":
            rewards.append(agent0_task(hits, formed, shares[i], draft.get("tool_calls", 0.0)))
        else:
            rewards.append(drzero_task(hits, drzero_format(episode, draft if formed else None)))
    return rewards


def keeps(method: str, draft: dict) -> bool:
    """Is a draft one of the round's tasks? Well-formed (Absolute Zero), 0.3 <= p <= 0.8 (R-Zero, Agent0), rewarded (Dr.
    Zero, ASL)."""
    if method in MAJORITY:
        return bool(draft["verdicts"]) and 0.3 <= sum(draft["verdicts"]) / len(draft["verdicts"]) <= 0.8
    return draft["well_formed"] if method == "absolute_zero" else draft["reward"] > 0


def cluster_shares(questions: Sequence[str], threshold: float = 0.5) -> list[float]:
    """Cluster size / batch size for each question: average linkage on the distance 1 - sentence BLEU, cut at
    `threshold`."""
    n = len(questions)
    if n < 2:
        return [1.0] * n
    words = [question.split() for question in questions]
    distances = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1, n):
            distances[i, j] = distances[j, i] = 1 - bleu(words[i], words[j])
    labels = fcluster(linkage(squareform(distances), "average"), threshold, "distance")
    return [float(np.mean(labels == label)) for label in labels]


def bleu(words: Sequence[str], reference: Sequence[str]) -> float:
    """Sentence BLEU of up to 4-grams, brevity penalty included; 0.1 stands for a count of 0 matches (smoothing method
    1), 0 if no word matches."""
    log_sum = 0.0
    for n in range(1, 5):
        mine, theirs = (
            Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1)) for text in (words, reference)
        )
        hits = sum((mine & theirs).values())
        if n == 1 and not hits:
            return 0.0
        log_sum += math.log((hits or 0.1) / max(sum(mine.values()), 1)) / 4
    return math.exp(log_sum + min(0.0, 1 - len(reference) / len(words)))


# --- the solver


def solver_reward(method: str, verdict: bool | None) -> float:
    """Reward of an attempt that is right (True), wrong (False) or without an answer (None).

    "absolute_zero": 1, -0.5, -1. "r_zero" and "agent0": 0.9 [right] + 0.1 [answered]. "gold", as Search-R1: exact
    match, 1 or 0.
    """
    if method == "absolute_zero":
        return {True: 1.0, False: -0.5, None: -1.0}[verdict]
    if method in MAJORITY:
        return 0.9 * (verdict is True) + 0.1 * (verdict is not None)
    return float(verdict is True)


def agent0_weight(hits: Sequence[bool]) -> float:
    """Agent0 scales a task's advantages by its self-consistency: from 0.6 at p = 0.3 to 1 at p = 0.8. (Its wider upper
    clip for uncertain tasks has no effect where, as here, a batch is used for one optimizer step.)"""
    p = sum(hits) / len(hits)
    return 0.6 + 0.4 * min(max((p - 0.3) / 0.5, 0.0), 1.0)


# --- both


def advantage_groups(method: str, episodes: Sequence[Episode], samples: int) -> list[list[Episode]]:
    """Episodes whose rewards are compared: those of a prompt (GRPO); all of the step (Absolute Zero's REINFORCE++, one
    task type); for Dr. Zero's task writer those of as many tool calls (its HRPO groups by hops, with one episode a
    prompt)."""
    if method == "absolute_zero":
        return [list(episodes)]
    if method == "drzero":
        return [
            [e for e in episodes if e.n_tool_calls == calls] for calls in sorted({e.n_tool_calls for e in episodes})
        ]
    return [list(episodes[i : i + samples]) for i in range(0, len(episodes), samples)]
