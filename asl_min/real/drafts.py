"""A question about a sentence of an article, fit or not."""

import re
from dataclasses import dataclass

from asl_min.real.spans import Span


@dataclass(frozen=True)
class Draft:
    """`answer`: a phrase of the sentence, or the article's title without what stands in brackets; `kind`: of the
    answer, as in spans.py."""

    title: str
    sentence: str
    answer: str
    kind: str
    question: str

    @property
    def span(self) -> Span:
        return Span(self.answer, self.kind)


def bare(title: str) -> str:
    """A title without what tells it from others: "Mercury (planet)" -> "Mercury"."""
    return re.sub(r" \([^)]*\)$", "", title)
