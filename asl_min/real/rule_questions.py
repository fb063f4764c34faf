"""Questions made of the articles' sentences by rules of grammar, for the cold start's demonstrations on prose.

A sentence whose subject is the article, by its title or a pronoun, becomes questions for one part of it each:

    Ada Lind was a chemist who found loran.      the subject    Who was a chemist who found loran?
    She wrote The Salt Garden in 1912.           the object     What did Ada Lind write?
                                                 the time       When did Ada Lind write The Salt Garden?
    She was born in Port Ames.                   the place      Where was Ada Lind born?
    It was built by Edda Brune.                  the agent      Who built Varn Bridge?
    It is the capital of Quenland.               the other end  What is Oster the capital of?
    It has a population of 4,500.                a number       What is the population of Oster?

After Heilman and Smith, "Good Question! Statistical Ranking for Question Generation" (2010), without the ranking:
checks.py drops what is unfit.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from asl_min.corpus import Passage
from asl_min.real.drafts import Draft, bare
from asl_min.real.spans import CAPITALISED, LINKING, MONTHS, PATTERNS, kind_of, sentences

BE = "is|was|are|were"
IN_E = "composed created introduced invaded proposed received released ruled"
IN_ED = (
    "conquered defeated designed developed directed discovered established founded invented joined painted published "
    "recorded succeeded"
)
PAST = {past: past[:-1] for past in IN_E.split()} | {past: past[:-2] for past in IN_ED.split()}
PAST |= {"became": "become", "built": "build", "led": "lead", "married": "marry", "won": "win", "wrote": "write"}
"""Past forms of verbs, and how "did" asks for them."""
OF_PERSONS = ("defeated", "joined", "married", "succeeded")
"""Those whose object is mostly a person."""
MADE = (
    "built|completed|composed|created|designed|developed|directed|discovered|established|formed|founded|introduced|"
    "invented|launched|opened|painted|produced|proposed|published|released|signed|written"
)
"""Participles of what has a time and somebody who did it."""
MAKER = dict.fromkeys(("novel", "book", "poem", "play", "written"), "wrote")
MAKER |= {"opera": "composed", "painting": "painted"}
"""What the maker of a thing did, by the thing or by the participle; else the participle itself."""
PLACED = (
    "located|situated|born|found|held|based|headquartered|buried|educated|raised|built|spoken|fought|produced|played"
)
MEASURE = "population|area|height|length|depth|diameter|elevation|wingspan|temperature"
MARK = "symbol|atomic number|chemical formula|family|genus|order"
"""What stands beside its noun: "the family Felidae"."""
FINITE = rf"{'|'.join(PAST)}|{BE}|has|had|served|held|gave|took|rose|ran|sang|worked|lies|\w+ed|\w+[^su]s"
"""What a predicate begins with."""
NAME = rf"(?:the )?{CAPITALISED}(?: (?:(?:{LINKING}) )*{CAPITALISED})*"
TIME = rf"{PATTERNS['date']}|{PATTERNS['year']}"
END = r"(?=[,.;]|$| (?:and|but|who|which|that|where|when|in|at|on|for|by|as|to|from|with)\b)"
"""What may follow an answer."""
LIST = r", (?:[\w-]+ ){0,4}(?:and|or) |, [\w -]{1,30}, "
"""After the first part of a list."""
FEWEST_WORDS, MOST_WORDS = 4, 16
"""Of a predicate that a question repeats."""


@dataclass(frozen=True)
class Statement:
    """A sentence about its article. `subject`: as a question names it; `names`: what it is called besides; `rest`: what
    is said of it."""

    title: str
    sentence: str
    subject: str
    names: str
    rest: str
    person: bool

    def ask(self, question: str, answer: str, kind: str = "name") -> Draft:
        return Draft(self.title, self.sentence, answer.removeprefix("the "), kind, " ".join(question.split()) + "?")


def statements(article: Passage) -> Iterator[Statement]:
    """The sentences whose subject is the article; what stands in brackets is left out."""
    title, found = bare(article.title), sentences(article.text)
    person = is_person(found)
    aside = r"(?P<names>,(?! and\b)[^,]+(?:,[^,]+){0,2},)?"
    named = rf"(?:(?P<word>The |An? )?(?P<title>{re.escape(title)}s?)|It|He|She){aside}"
    for sentence in found:
        plain = re.sub(r" ?\([^()]*\)", "", sentence)
        of_others = not person and re.match(r"(?:He|She)\b", plain)  # of somebody whom the article names
        if not of_others and (match := re.match(rf"{named} (?P<rest>(?:{FINITE})\b.+?)\.?$", plain)):
            subject = f"{(match['word'] or '').lower()}{match['title'] or title}"
            yield Statement(article.title, sentence, subject, match["names"] or "", match["rest"], person)


def is_person(found: Sequence[str]) -> bool:
    """Is one said to have been a German reformer, say; or is one spoken of as "he" or "she", from the first sentence on
    or after a day of birth? A "he" alone may be somebody whom the article names."""
    trade = r"was an? (?:[\w-]+ )*?[A-Z][\w-]+ (?:[\w-]+ )*?\w*(?:ist|er|or|ian|poet|king|monk)\b"
    lived = re.search(rf"\([^)]*(?:\bborn\b|\b(?:{MONTHS})\b[^)]*[–-])", found[0])
    called = [bool(re.match(r"(?:He|She) ", sentence)) for sentence in found]
    return bool(re.search(trade, found[0])) or called[0] or bool(lived and any(called))


def questions(s: Statement) -> Iterator[Draft]:
    """All that the rules make of a statement, fit or not; the answer is the title in the first of them alone."""
    yield from for_subject(s)
    yield from for_time_place_and_agent(s)
    yield from for_object(s)
    yield from for_other_end(s)
    yield from for_name(s)
    yield from for_value(s)


def for_subject(s: Statement) -> Iterator[Draft]:
    tail = re.split(r", |[;:]| – ", s.rest)[0].strip()
    after = s.rest[len(tail) :]
    cut_off = re.match(LIST, f"{after} ") or (after and re.search(r"\b(?:which|whom|whose)\b", tail))
    if FEWEST_WORDS <= len(tail.split()) <= MOST_WORDS and not cut_off and not tail.count('"') % 2:
        yield s.ask(f"{'Who' if s.person else 'What'} {tail}", bare(s.title), "name" if s.person else "term")


def for_time_place_and_agent(s: Statement) -> Iterator[Draft]:
    """Of what was done to the subject: "was founded", or "is a company founded"."""
    if not (match := re.match(rf"({BE}) ", s.rest)):
        return
    clause, be = re.split(r", |;", s.rest)[0], "were" if match[1] in ("are", "were") else "was"
    if found := re.search(rf"\b({MADE}) (?:[\w ]+ )?(?:in|on) ({TIME}){END}", clause):
        yield s.ask(f"When {be} {s.subject} {found[1]}", found[2], kind_of(found[2]))
    if found := re.search(rf"\b({MADE})(?: and \w+)? (?:in [\w ]+ )?by ({PATTERNS['name']}){END}", clause):
        yield s.ask(f"Who {MAKER.get(found[1], found[1])} {s.subject}", found[2])
    if found := re.match(rf"(?:{BE}) an? [^,]*?\b({'|'.join(MAKER)}) by ({PATTERNS['name']}){END}", clause):
        yield s.ask(f"Who {MAKER[found[1]]} {s.subject}", found[2])
    if found := re.match(rf"({BE}) ({PLACED}) (?:in|at) ({NAME}){END}", clause):
        yield s.ask(f"Where {found[1]} {s.subject} {found[2]}", found[3])
    if found := re.match(rf"({BE}) (\w+ed [\w' ]{{0,40}}?)in ({TIME}){END}", clause):
        yield s.ask(f"In which year {found[1]} {s.subject} {found[2]}", found[3], "year")


def for_object(s: Statement) -> Iterator[Draft]:
    """What the subject did, and when."""
    if not (match := re.match(rf"({'|'.join(PAST)}) (.+)", s.rest)):
        return
    verb, rest = match.groups()
    if found := re.match(rf"({NAME}){END}", rest):
        yield s.ask(f"{'Who' if verb in OF_PERSONS else 'What'} did {s.subject} {PAST[verb]}", found[1])
    if (found := re.match(rf"([^,;]+?) (?:in|on) ({TIME}){END}", rest)) and len(found[1].split()) < MOST_WORDS // 2:
        yield s.ask(f"When did {s.subject} {PAST[verb]} {found[1]}", found[2], kind_of(found[2]))


def for_other_end(s: Statement) -> Iterator[Draft]:
    """What the subject is the capital of, where it is or comes from."""
    if found := re.match(rf"({BE}) the ([\w -]{{3,40}}?) of ({NAME}){END}", s.rest):
        yield s.ask(f"What {found[1]} {s.subject} the {found[2]} of", found[3])
    if not s.person and (found := re.match(rf"({BE}) (?:an?|the) [\w -]{{3,50}}? in ({NAME}){END}", s.rest)):
        located = " located" if found[1] in ("is", "are") else ""
        yield s.ask(f"Where {found[1]} {s.subject}{located}", found[2])
    if found := re.match(rf"({BE}) an? [\w -]{{3,50}}? from ({NAME}){END}", s.rest):
        yield s.ask(f"Where {found[1]} {s.subject} from", found[2])
    if s.person and (found := re.match(r"(is|was) an? ([A-Z][a-z]+(?:an|ish|ese|ch|ek|i))\b", s.rest)):
        yield s.ask(f"What nationality {found[1]} {s.subject}", found[2])


def for_name(s: Statement) -> Iterator[Draft]:
    """What else the subject is called, or who gave it its name."""
    if found := re.search(rf"\b(also|formerly|officially|originally) (?:known as |called |named )?({NAME}),", s.names):
        yield s.ask(f"What is {s.subject} {found[1]} called", found[2])
    if found := re.search(rf"\bnamed (?:after|for) ({NAME}){END}", s.rest):
        yield s.ask(f"Who is {s.subject} named after", found[1])


def for_value(s: Statement) -> Iterator[Draft]:
    """The population of a city, the symbol of an element."""
    about = r"(?:about |around |over |nearly |approximately |roughly |more than |just over )?"
    if found := re.search(rf"\b({MEASURE}) of {about}({PATTERNS['number']})", s.rest):
        yield s.ask(f"What is the {found[1]} of {s.subject}", found[2], "number")
    for found in re.finditer(rf"\b({MARK})(?: is| of|:)? ((?:{NAME}|\d+)){END}", s.rest):
        yield s.ask(f"What is the {found[1]} of {s.subject}", found[2], "number" if found[2].isdigit() else "name")


def possessives(article: Passage) -> Iterator[Draft]:
    """Of sentences such as "Its capital is Oster" and "The capital of Quenland is Oster"."""
    title = bare(article.title)
    for sentence in sentences(article.text):
        plain = re.sub(r" ?\([^()]*\)", "", sentence)
        own = rf"(?:Its|His|Her|Their) ([\w -]{{3,40}}?)|The ([\w -]{{3,40}}?) of (?:the )?{re.escape(title)}"
        if found := re.match(rf"(?:{own}) (is|was|are|were) ({NAME}){END}", plain):
            what, be, answer = found[1] or found[2], found[3], found[4].removeprefix("the ")
            kind = "Who" if re.search(r"(?:er|or|ist|father|king|president|wife|husband)$", what) else "What"
            yield Draft(article.title, sentence, answer, "name", f"{kind} {be} the {what} of {title}?")
