"""Answer normalisation and the two matches, as Search-R1 defines them."""

import re
import string
from collections.abc import Sequence


def normalize(text: str) -> str:
    """Lower case, punctuation stripped, the articles a, an and the dropped, white space collapsed."""
    bare = "".join(ch for ch in text.lower() if ch not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def matches(answer: str | None, golden: Sequence[str]) -> bool:
    """Exact match of the normalised answer with any golden answer."""
    return answer is not None and normalize(answer) in {normalize(g) for g in golden}


def covers(answer: str | None, golden: Sequence[str]) -> bool:
    """Cover match: a normalised golden answer occurs, as whole words, in the normalised answer."""
    return answer is not None and any(normalize(g) and f" {normalize(g)} " in f" {normalize(answer)} " for g in golden)
