"""The Generative Reward Model: sees a question and a candidate answer, no reference; searches, reasons and judges."""

from collections.abc import Callable, Sequence

from asl_min import protocol
from asl_min.episode import Episode, Request, seed_of


def request(question: str, answer: str, *seed_key: object) -> Request:
    return Request("judge", {"question": question, "answer": answer}, seed_of(*seed_key))


def verdict(episode: Episode) -> bool | None:
    """Correct, wrong, or None for a conclusion that cannot be read."""
    return protocol.verdict(episode.final_text)


def judge(rollout: Callable[[Sequence[Request]], list[Episode]], pairs: Sequence[tuple[str, str | None]], *seed_key: object) -> list[bool | None]:
    """One verdict for each (question, answer); None also where there is no answer, which is not put to the model."""
    asked = [i for i, (_, answer) in enumerate(pairs) if answer]
    episodes = rollout([request(*pairs[i], *seed_key, i) for i in asked])
    verdicts: list[bool | None] = [None] * len(pairs)
    for i, episode in zip(asked, episodes, strict=True):
        verdicts[i] = verdict(episode)
    return verdicts
