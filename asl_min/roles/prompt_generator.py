"""The Prompt Generator: sees a topic or an earlier question, searches, and writes a task with its own answer."""

from asl_min import protocol
from asl_min.episode import Episode, Request, seed_of


def topic_prompt(topic: str) -> dict:
    return {"kind": "task_from_topic", "fields": {"topic": topic}}


def requests(meta_prompts: list[dict], samples: int, *seed_key: object) -> list[Request]:
    """`samples` requests a meta prompt, those of one prompt side by side."""
    return [Request(m["kind"], m["fields"], seed_of(*seed_key, i, j)) for i, m in enumerate(meta_prompts) for j in range(samples)]


def task(episode: Episode) -> dict | None:
    """The task an episode wrote, `{"question", "answer", "parent"}`; None if it is malformed."""
    text = episode.final_text
    question, answer = protocol.question(text), protocol.answer(text)
    if not protocol.well_formed_task(question, answer):
        return None
    return {"question": question, "answer": answer, "parent": episode.request.fields}
