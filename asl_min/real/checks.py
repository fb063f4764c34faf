"""The checks that a question made of an article must pass. None of them needs a label.

It has the form of one short question; it asks for the kind of thing that the answer is; it does not contain the answer;
the answer is not the first of several; it names the article, or the search engine finds the article first by the words
of the question; it speaks of no name and no number that the article does not.
"""

import re

from asl_min.real.drafts import Draft, bare
from asl_min.real.spans import ASKED_BY, NO_NAMES
from asl_min.rewards import normalize
from asl_min.search.tool import SearchTool

FAULTS = ("form", "kind", "answer in the question", "one of several", "subject", "not on the page")
"""In the order in which they are looked for."""
MAX_WORDS = 25
STOPWORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be been by called did do does for from had has have how in into is it its known of on "
        "or that the their them they this to use used was were what when where which who whom whose why will with",
    )
)


def query_of(question: str) -> str:
    """The words of a question that say what it is about."""
    return " ".join(word for word in re.findall(r"[\w'’.-]+", question.rstrip("?")) if word.lower() not in STOPWORDS)


def fault_of(draft: Draft, lead: str, tool: SearchTool) -> str | None:
    """The first check that a question fails; None if it passes."""
    question, title = draft.question, bare(draft.title)
    one = re.fullmatch(r"[A-Z][^?.!\n:]*(?:\b[A-Z]\.[^?.!\n:]*)*\?", question)
    if not one or not 3 <= len(question.split()) <= MAX_WORDS:
        return "form"
    if not re.search(ASKED_BY[draft.kind], question, re.IGNORECASE):
        return "kind"
    if names(question, draft.answer):
        return "answer in the question"
    if one_of_several(draft):
        return "one of several"
    if not names(question, title) and not finds_first(question, draft.title, tool):
        return "subject"
    return "not on the page" if unsupported(question, f"{title} {lead}") else None


def one_of_several(draft: Draft) -> bool:
    """Does another name or number follow the answer in a list, or the larger place that it lies in, which the question
    does not hold? That would be a right answer too."""
    after = draft.sentence.partition(draft.answer)[2]
    more = re.match(r"(?:, (?:and |or )?| and | or )(?:the )?([A-Z][\w'’-]*|\d[\d,.]*\d|\d)", after)
    return bool(more) and not names(draft.question, more[1])


def names(question: str, title: str) -> bool:
    return f" {normalize(title)} " in f" {normalize(question)} "


def finds_first(question: str, title: str, tool: SearchTool) -> bool:
    found = tool.retrieve([query_of(question)])[0] if query_of(question) else []
    return bool(found) and found[0].title == title


def unsupported(question: str, page: str) -> list[str]:
    """Names and numbers of a question that its page does not mention."""
    words, known = question.rstrip("?").split(), set(normalize(page.replace("-", " ")).split())
    said = [w for i, w in enumerate(words) if re.match(r"[\d]|[A-Z]", w) and i > 0 and w not in NO_NAMES]
    parts = [part for w in said for part in normalize(re.sub(r"['’]s$", "", w).replace("-", " ")).split()]
    return [part for part in parts if part not in known]
