"""Short answers in running text: which phrases of a sentence a question can ask for, of what kind they are, and how
else they can be written."""

import random
import re
from dataclasses import dataclass

from asl_min.rewards import normalize
from asl_min.world.values import WORDS

MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
CAPITALISED = r"(?:[A-Z]\.(?= ?[A-Z])|St\.|[A-ZÀ-Þ][\w-]*(?:['’][A-Z]\w+)?)"
LINKING = r"of|the|de|la|von|van|der|du|da|di|del"
UNITS = r"million|billion|trillion|percent|kilometres|kilometers|km|metres|meters|miles|years|people|square"
PATTERNS = {
    "date": rf"\b\d{{1,2}} (?:{MONTHS}) \d{{3,4}}\b|\b(?:{MONTHS}) \d{{1,2}}, \d{{3,4}}\b",
    "year": r"\b\d{1,4} (?:BC|BCE|AD|CE)\b|(?<![\d,.–-])\b(?:1\d{3}|20\d\d)\b(?![–-]|[,.]\d)",
    "number": rf"(?<![\w,.–-])\d+(?:,\d{{3}})*(?:\.\d+)?(?:%| (?:{UNITS})\b(?: (?:{UNITS})\b)*)?(?![\w–-])",
    "name": rf"\b{CAPITALISED}(?: (?:(?:{LINKING}) )*{CAPITALISED})*",
}
"""Kinds of answers, in the order in which they take their place in a sentence. A fifth kind, "term", is a word in lower
case that is the title of an article."""
ASKED_BY = {
    "date": r"\b(when|(what|which) (year|date|day))\b",
    "year": r"\b(when|(what|which) year)\b",
    "number": r"\bhow (many|much|long|old|tall|high|far|large|big|deep|wide)\b|\bwhat (is|was) the\b|\bwhat percent",
    "name": r"\b(who|whom|whose|where|what|which)\b(?! (year|date|day)\b)",
    "term": r"\b(what|which)\b(?! (year|date|day)\b)",
}
"""How a question asks for each kind."""
NO_NAMES = frozenset(
    re.findall(
        r"\w+",
        "A An And As At Although After Before Both But By During For From He Her His However If In It Its Most Of On "
        "One Or Other She Since Some That The Their There These They This Though To Under When Where Which While With",
    )
)
"""Capitalised because they open a sentence."""


@dataclass(frozen=True)
class Span:
    text: str
    kind: str


def kind_of(answer: str) -> str:
    """The kind of an answer that stands alone."""
    plain = next((kind for kind in ("date", "year", "number") if re.fullmatch(PATTERNS[kind], answer)), None)
    return plain or ("name" if answer[:1].isupper() else "term")


def sentences(text: str) -> list[str]:
    """Split after a full stop before a capital; not after an initial or a title of two letters, such as "Dr."."""
    return re.split(r"(?<!\b[A-Z]\.)(?<!\b[A-Z][a-z]\.)(?<=[.!?]) (?=[A-Z\"“])", text)


def spans(sentence: str) -> list[Span]:
    """What a question can ask for, in the order of kinds, none within another."""
    found, taken = [], [False] * len(sentence)
    for kind, pattern in PATTERNS.items():
        for match in re.finditer(pattern, sentence):
            start, end = name_in(match) if kind == "name" else match.span()
            if start < end and not any(taken[start:end]):
                taken[start:end] = [True] * (end - start)
                found.append(Span(sentence[start:end], kind))
    return found


def name_in(match: re.Match) -> tuple[int, int]:
    """Where the name begins and ends, without an article or preposition before it. A single word that opens the
    sentence is none, since its capital says nothing, and no more are initials alone."""
    (start, end), words = match.span(), match.group().split(" ")
    if words[0] in NO_NAMES:
        start = min(start + len(words[0]) + 1, end)
    if len(words) > 1 and words[-1] in NO_NAMES:  # the next sentence's first word, after an abbreviation
        end -= len(words[-1]) + 1
    initials = re.fullmatch(r"(?:[A-Z]\. ?)+", match.string[start:end])
    return (end, end) if initials or (start == 0 and " " not in match.group()) else (start, end)


def overlap(one: str, other: str) -> bool:
    """Is one text, normalised, a run of words of the other?"""
    a, b = f" {normalize(one)} ", f" {normalize(other)} "
    return a in b or b in a


def in_other_words(answer: Span, rng: random.Random) -> str:
    """The answer as somebody else might write it; unchanged where there is no other way."""
    text = answer.text
    ways = [f"It is {text}.", f"The answer is {text}."]
    if day := re.fullmatch(rf"(\d+) ({MONTHS}) (\d+)", text):
        ways = [f"{day[2]} {day[1]}, {day[3]}", f"{day[1]} {day[2][:3]} {day[3]}"]
    elif day := re.fullmatch(rf"({MONTHS}) (\d+), (\d+)", text):
        ways = [f"{day[2]} {day[1]} {day[3]}", f"{day[1][:3]} {day[2]}, {day[3]}"]
    elif answer.kind == "year":
        ways = [f"in {text}", f"the year {text}", f"It was {text}."]
    elif answer.kind == "number" and text in map(str, range(1, 10)):
        ways = [WORDS[int(text)]]
    elif answer.kind == "number" and "," in text:
        ways = [text.replace(",", "")]
    elif answer.kind in ("name", "term"):
        ways += [text.lower(), f"{text}, of course"]
    return rng.choice(ways)


def near_miss(answer: Span, rng: random.Random) -> str | None:
    """A wrong year or number that looks like the right one; None for other kinds. Zeros of a number stay: a round one
    may mean its neighbours too."""
    digits = list(re.finditer(r"[1-9]" if answer.kind == "number" else r"\d", answer.text))
    if answer.kind not in ("date", "year", "number") or not digits:
        return None
    place = rng.choice(digits[-2:] if answer.kind == "year" else digits[-3:]).start()
    other = rng.choice([d for d in "123456789" if d != answer.text[place]])
    return answer.text[:place] + other + answer.text[place + 1 :]
