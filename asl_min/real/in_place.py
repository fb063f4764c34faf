"""Questions in place: a statement in which a question word stands for one part.

    Mount Varn is a volcano on the island of Quen, 3,776 metres high.
        Mount Varn is a volcano on the island of what?
        Mount Varn is a volcano on the island of Quen, how many high?

Nobody asks so, but every name, date and number of every sentence can be asked for. The rules of grammar
(rule_questions.py) mostly ask for the subject or for a nationality; here the words of the question alone say which part
is wanted.
"""

import re
from collections.abc import Iterator

from asl_min.real.drafts import Draft
from asl_min.real.rule_questions import Statement
from asl_min.real.spans import spans

FIRST_WORDS = r"(?:Who|What|Where|When|Which|How|In which)\b"
"""What the other questions begin with."""
WORDS = {"date": "which date", "year": "which year", "number": "how many"}
AFTER = {"by": "whom", "with": "whom", "in": "which place", "at": "which place", "near": "which place"}
"""The question word for a name, by the word before it; else "what"."""


def in_place(s: Statement) -> Iterator[Draft]:
    """A question for each part of what is said of the subject; the clauses after it are left out."""
    for span in spans(s.rest):
        place = re.search(rf"(?<!\w){re.escape(span.text)}(?!\w)", s.rest)
        if not place:  # within a word
            continue
        before, after = s.rest[: place.start()], s.rest[place.end() :]
        before, kept = before.removesuffix("the "), re.split(r"[,;:]| – ", after)[0].rstrip()
        word = WORDS.get(span.kind) or AFTER.get(before.split()[-1] if before.split() else "", "what")
        question = f"{s.subject} {before}{word}{kept}"
        if not question.count('"') % 2:
            yield s.ask(question[0].upper() + question[1:], span.text, span.kind)


def is_in_place(draft: Draft) -> bool:
    return not re.match(FIRST_WORDS, draft.question)
