"""Questions of two hops: the answer of one is the article of another.

"Who wrote The Salt Garden?" with the answer Edda Brune, and "Where was Edda Brune born?", become "Where was the one who
wrote The Salt Garden born?".
"""

import re

from asl_min.real.checks import names
from asl_min.real.drafts import Draft, bare

AUXILIARIES = r"(?:is|was|are|were|did|does|do|has|have|had|can|could|will|would)"
LONGEST_PHRASE = 14
"""Words."""


def noun_phrase(question: str, title: str) -> str | None:
    """What a question about an article asks for, as a noun phrase; None for wordings that no rule covers.

    Who wrote T?                      the one who wrote T
    What is the capital of T?         the capital of T
    Which river crosses T?            the river that crosses T
    Which city is the capital of T?   the city that is the capital of T
    Where was T born?                 the place where T was born
    Where is T located?               the place that T is in
    In which city was T born?         the city in which T was born
    T is a town on the what?          the thing that T is a town on
    T lies in which place?            the place that T lies in
    T was built by whom?              the one that T was built by
    """
    subject = re.escape(title)
    rules = (
        (rf"Who (?!{AUXILIARIES}\b)(.+)", r"the one who \1"),
        (rf"(?:What|Who) (?:is|was|are|were) (the [^,]+ of (?:the )?{subject})", r"\1"),
        (rf"(?:What|Which) ((?!{AUXILIARIES}\b)\w+) ((?:is|was) the \w+ .*{subject})", r"the \1 that \2"),
        (rf"(?:What|Which) ((?!{AUXILIARIES}\b)\w+) (?!{AUXILIARIES}\b)(\w+(?:s|ed)\b .+)", r"the \1 that \2"),
        (rf"Where (is|are) ((?:the )?{subject}) located", r"the place that \2 \1 in"),
        (rf"Where (is|was) ((?:the )?{subject}) (.+)", r"the place where \2 \1 \3"),
        (rf"((?:The )?{subject} .+) what", r"the thing that \1"),
        (rf"((?:The )?{subject} .+) which place", r"the place that \1"),
        (rf"((?:The )?{subject} .+) whom", r"the one that \1"),
        (rf"(In|On|At|For|From|By|To) (?:what|which) (\w+) (is|was) ((?:the )?{subject}) (.+)", None),
    )
    for pattern, phrase in rules:
        if match := re.fullmatch(pattern, question.rstrip("?")):
            preposition, noun, verb, whom, rest = match.groups() if phrase is None else ("",) * 5
            found = match.expand(phrase) if phrase else f"the {noun} {preposition.lower()} which {whom} {verb} {rest}"
            return found.replace(" The ", " the ") if len(found.split()) <= LONGEST_PHRASE else None
    return None


def joined(first: Draft, second: Draft) -> str | None:
    """The question of two hops; None where the two do not fit. Neither answer stands in it."""
    link, subject = bare(second.title), bare(first.title)
    if first.answer.lower() != link.lower() or not names(first.question, subject):
        return None
    phrase = noun_phrase(first.question, subject)
    place = re.search(rf"\b(?:[Tt]he )?{re.escape(link)}\b", second.question)
    if not phrase or not place or place.start() == 0 or (phrase.startswith("the place") and "Where" in second.question):
        return None
    question = f"{second.question[: place.start()]}{phrase}{second.question[place.end() :]}"
    return None if names(question, link) or names(question, second.answer) else question
