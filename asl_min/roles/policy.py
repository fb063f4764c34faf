"""The Policy Model: sees a question, searches, reasons and answers."""

from collections.abc import Sequence

from asl_min import protocol
from asl_min.episode import Episode, Request, seed_of


def requests(questions: Sequence[str], samples: int, *seed_key: object) -> list[Request]:
    """`samples` requests a question, those of one question side by side."""
    return [Request("policy", {"question": q}, seed_of(*seed_key, i, j)) for i, q in enumerate(questions) for j in range(samples)]


def answer(episode: Episode) -> str | None:
    """The episode's answer; None if it gave none."""
    return protocol.answer(episode.final_text)
