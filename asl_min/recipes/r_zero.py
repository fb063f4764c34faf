"""R-Zero (public code: Chengsong-Huang/R-Zero), moved to search tasks. No judge, no labels.

    task      min(p, 1 - p) - share of the step's questions in its cluster; the first term of a malformed task is -1
    policy    0.9 [right] + 0.1 [answered]

What is right is the majority's answer among a task's attempts; p is their share. The trained writer then writes fresh
questions; those with 0.3 <= p <= 0.8, p now among the attempts that gave an answer, are the round's tasks. Its KL is to
the previous iterate: `kl_reference: previous`.

Source: arXiv 2508.05004; Chengsong-Huang/R-Zero 5699329: examples/reward_function/caller_penalty.py (writer),
question_evaluate/upload.py (window).
Read: code.
Differs: the writer gets ASL's topics and its harder / easier prompts, and fresh questions are written until the
policy's share of the round's rollouts has a new task for each group of its episodes, or `fresh_share` of them is spent
(there: 8,000 questions).
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from asl_min import recipes
from asl_min.episode import Episode, Task
from asl_min.rewards import majority

LOWEST, HIGHEST = 0.3, 0.8


def task_reward(hits: Sequence[bool], well_formed: bool, share: float) -> float:
    """min(p, 1 - p) - share of the batch in the task's cluster, -1 for the first term of a malformed task.

    The code's; the paper's 1 - 2 |p - 1/2| - share weighs the penalty half as much.
    """
    p = sum(hits) / len(hits) if hits else 0.0
    return (min(p, 1 - p) if well_formed else -1.0) - share


class Recipe(recipes.Recipe):
    fresh_samples = 1

    def answer_key(self, task: Task) -> list[str]:
        return [majority(task.answers) or ""]

    def task_rewards(self, tasks: Sequence[Task], episodes: Sequence[Episode]) -> list[float]:
        shares = cluster_shares([task.question or "" for task in tasks])
        return [task_reward(t.verdicts, t.well_formed, share) for t, share in zip(tasks, shares, strict=True)]

    def keeps(self, task: Task) -> bool:
        answered = sum(answer is not None for answer in task.answers)
        return bool(answered) and LOWEST <= sum(task.verdicts) / answered <= HIGHEST

    def answer_reward(self, verdict: recipes.Verdict) -> float:
        return 0.9 * (verdict is True) + 0.1 * (verdict is not None)


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
    """Sentence BLEU of up to 4-grams with its brevity penalty. Counts of 0 matches are replaced by 0.1 (smoothing
    method 1); 0 if no word matches."""
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
