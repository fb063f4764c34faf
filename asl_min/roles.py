"""The three roles: what each one is asked, and what is read from its episode.

Prompt Generator: sees a topic or an earlier question, searches, and writes a task with its own answer.
Policy Model: sees a question, searches, reasons and answers.
Generative Reward Model: sees a question and a candidate answer, no reference; searches, reasons and judges.
"""

from collections.abc import Callable, Sequence

from asl_min import protocol
from asl_min.episode import Episode, Request, Task, seed_of

# --- Prompt Generator


def topic_prompt(topic: str) -> dict:
    return {"prompt": "task_from_topic", "fields": {"topic": topic}}


def hops_prompt(hops: int, topic: str) -> dict:
    """Asks for a task on the topic that takes so many hops."""
    return {"prompt": "task_by_hops", "fields": {"hops": str(hops), "topic": topic}}


def task_requests(meta_prompts: list[dict], samples: int, *seed_key: object) -> list[Request]:
    """`samples` requests a meta prompt, those of one prompt side by side."""
    return [
        Request(m["prompt"], m["fields"], seed_of(*seed_key, i, j))
        for i, m in enumerate(meta_prompts)
        for j in range(samples)
    ]


def task_of(episode: Episode) -> Task:
    """The task an episode wrote; without question and answer if it is malformed."""
    text = episode.final_text
    question, answer = protocol.question(text), protocol.answer(text)
    if not protocol.well_formed_task(question, answer):
        return Task(None, None)
    return Task(question, answer, episode.request.fields, well_formed=True)


# --- Policy Model


def solve_requests(questions: Sequence[str], samples: int, *seed_key: object) -> list[Request]:
    """`samples` requests a question, those of one question side by side."""
    return [
        Request("policy", {"question": q}, seed_of(*seed_key, i, j))
        for i, q in enumerate(questions)
        for j in range(samples)
    ]


def answer_of(episode: Episode) -> str | None:
    """The episode's answer; None if it gave none."""
    return protocol.answer(episode.final_text)


# --- Generative Reward Model


def judge_request(question: str, answer: str, *seed_key: object) -> Request:
    return Request("judge", {"question": question, "answer": answer}, seed_of(*seed_key))


def verdict_of(episode: Episode) -> bool | None:
    """Correct, wrong, or None for a conclusion that cannot be read."""
    return protocol.verdict(episode.final_text)


def judge(
    rollout: Callable[[Sequence[Request]], list[Episode]], pairs: Sequence[tuple[str, str | None]], *seed_key: object
) -> list[bool | None]:
    """One verdict for each (question, answer); None also where there is no answer, which is not sent to the model."""
    asked = [i for i, (_, answer) in enumerate(pairs) if answer]
    episodes = rollout([judge_request(*pairs[i], *seed_key, i) for i in asked])
    verdicts: list[bool | None] = [None] * len(pairs)
    for i, episode in zip(asked, episodes, strict=True):
        verdicts[i] = verdict_of(episode)
    return verdicts
