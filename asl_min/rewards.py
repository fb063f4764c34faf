"""Rewards and selection rules that the systems share, as plain functions of verdicts and texts. No model, no gold
answer. What one system does differently stands in its file in `recipes/`.
"""

import random
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from asl_min.episode import Episode, FinishReason, Task, Triple
from asl_min.protocol import opens_with_think


def label_reward(verdict: bool | None, label: bool) -> float:
    """GRM reward: 1 if the conclusion equals the label, else 0; 0 for an unreadable conclusion."""
    return float(verdict == label)


def verdict_reward(verdict: bool | None) -> float:
    """Policy reward: the GRM's verdict, 1 for correct, else 0; 0 for an unreadable verdict or no answer."""
    return float(verdict is True)


def format_bonus(episode: Episode) -> float:
    """(share of assistant turns that open with a think block + 1 if the tool was used) / 4, for every role."""
    thinks = sum(opens_with_think(turn.text) for turn in episode.turns)
    used_tool = any(turn.queries for turn in episode.turns)
    return (thinks / max(len(episode.turns), 1) + used_tool) / 4


def by_prompt(episodes: Sequence[Episode], samples: int) -> list[list[Episode]]:
    """Groups of `samples` neighbours: the episodes of one prompt (GRPO)."""
    return [list(episodes[i : i + samples]) for i in range(0, len(episodes), samples)]


def matched(
    answers: Sequence[str | None], key: Sequence[str], matches: Callable[[str, Sequence[str]], bool]
) -> list[bool | None]:
    """Is each answer right by the key; None where there is no answer."""
    return [matches(answer, key) if answer else None for answer in answers]


def balanced(triples: Sequence[Triple], rng: random.Random) -> list[Triple]:
    """Class-balanced verification data: per question all triples of the rarer label and as many drawn from the other.
    Questions with one label only are dropped."""
    by_question: dict[str, list[Triple]] = {}
    for triple in triples:
        by_question.setdefault(triple.question, []).append(triple)
    kept = []
    for group in by_question.values():
        sides = [[t for t in group if t.label == label] for label in (True, False)]
        size = min(map(len, sides))
        kept += [triple for side in sides for triple in rng.sample(side, size)]
    return kept


def distinct(tasks: Iterable[Task]) -> dict[str, Task]:
    """The first task of each question, by the question, normalised."""
    first: dict[str, Task] = {}
    for task in tasks:
        first.setdefault(normalize(task.question), task)
    return first


def plateaued(rewards: Sequence[float], window: int, threshold: float) -> bool:
    """The released code's stopping rule. With s the reward per step, latest first, and N = `window`, both

        (mean s[0:N/2] - mean s[N/2:N]) / mean s[N/2:N] < threshold
        (mean s[0:N/4] - mean s[N/4:N/2]) / mean s[N/4:N/2] < threshold

    False before N steps; a mean of 0 counts as no gain.
    """
    if window < 4 or len(rewards) < window:
        return False
    latest = list(reversed(rewards))[:window]

    def gain(span: int) -> float:
        new, old = latest[:span], latest[span : 2 * span]
        return (sum(new) - sum(old)) / sum(old) if sum(old) else 0.0

    return gain(window // 2) < threshold and gain(window // 4) < threshold


def next_meta_prompt(task: Task, outcomes: Sequence[dict], way: str, results: bool) -> dict:
    """What the next round's PG is asked for, given the policy's attempts at a task (rows of outcomes.jsonl): a harder
    one if at least half were judged correct, else an easier one. With `results` the prompt also shows the task's own
    answer and the most frequent one of the attempts ("none" if there was no answer)."""
    accuracy = sum(row["verdict"] is True for row in outcomes) / len(outcomes)
    fields = {"direction": "harder" if accuracy >= 0.5 else "easier", "way": way, "question": task.question}
    if not results:
        return {"prompt": "task_from_question", "fields": fields}
    attempted = majority([row["answer"] for row in outcomes]) or "none"
    return {"prompt": "task_from_result", "fields": fields | {"answer": task.answer, "attempted": attempted}}


def finish_shares(episodes: Sequence[Episode]) -> dict[str, float]:
    """Share of each finish reason, for the log."""
    return {
        f"finish_{reason.value}": sum(e.finish_reason is reason for e in episodes) / max(len(episodes), 1)
        for reason in FinishReason
    }


# --- answer matching, as in Search-R1


def normalize(text: str) -> str:
    """Lower case, punctuation stripped, the articles a, an and the dropped, white space collapsed."""
    bare = "".join(ch for ch in text.lower() if ch not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def majority(answers: Sequence[str | None]) -> str | None:
    """The most frequent answer after normalisation, the first of equals, as it was first written; None if nobody
    answered."""
    said = [answer for answer in answers if answer]
    if not said:
        return None
    most = Counter(map(normalize, said)).most_common(1)[0][0]
    return next(answer for answer in said if normalize(answer) == most)


def exact_match(answer: str | None, golden: Sequence[str]) -> bool:
    """Exact match of the normalised answer with any golden answer."""
    return answer is not None and normalize(answer) in {normalize(g) for g in golden}


def sub_em(answer: str | None, golden: Sequence[str]) -> bool:
    """Cover match: a normalised golden answer occurs, as whole words, in the normalised answer."""
    return answer is not None and any(normalize(g) and f" {normalize(g)} " in f" {normalize(answer)} " for g in golden)
