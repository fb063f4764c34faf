"""Demonstrations on prose: the three roles played over real articles with questions made of them, those that passed the
checks. Search, pages and turns are laid out as a rollout lays them out.

What is thought of a page is the answer found in it; the next search, the answer or the judge's comparison starts from
there, as in the demonstrations of the embedded world (world/tiny/teacher.py). Of the last page it is the question again
and the answer to it, in the form in which the model reads best (own_reading.py): with the question behind the page.
"""

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from asl_min.corpus import Passage
from asl_min.protocol import render_tool_call
from asl_min.real.checks import names, query_of
from asl_min.real.drafts import Draft, bare
from asl_min.real.spans import Span, in_other_words, kind_of, near_miss, overlap, sentences, spans
from asl_min.real.two_hops import joined
from asl_min.search.bm25 import Bm25Search
from asl_min.search.tool import respond
from asl_min.world.tiny.teacher import Demonstration, NotFound, conclude

TOP_K, MOST_TURNS = 1, 4
"""Passages a query and turns of an episode, as in configs/smollm2-135m.yaml."""
BY_WORDS = 0.4
"""Share of questions that are looked up by their words, not by the article that they name."""
OTHERS = 5
"""Answers of other questions that one wrong answer is chosen from."""


@dataclass(frozen=True)
class Query:
    """A question and the drafts that lead to its answer, one a hop."""

    question: str
    hops: tuple[Draft, ...]

    @property
    def answer(self) -> Span:
        return self.hops[-1].span


class ProseTeacher:
    """Plays every role over the articles with one random stream. `sound`: the drafts that passed."""

    def __init__(self, articles: Sequence[Passage], sound: Sequence[Draft], rng: random.Random):
        self.rng, self.tool = rng, Bm25Search(list(articles), TOP_K)
        self.leads = {article.title: article.text for article in articles}
        self.single = [Query(draft.question, (draft,)) for draft in sound]
        self.double = two_hop_queries(sound)
        self.about: dict[str, list[Query]] = {}
        for query in self.single + self.double:
            self.about.setdefault(query.hops[0].title, []).append(query)
        self.by_kind: dict[str, list[str]] = {}
        for draft in sound:
            self.by_kind.setdefault(draft.kind, []).append(draft.answer)

    # -- looking up ---------------------------------------------------------------------------------------------------

    def search(self, thought: str, query: str) -> tuple[str, str]:
        return f"<think>{thought}</think>{render_tool_call(query)}", respond(self.tool, [query])

    def open(self, thought: str, draft: Draft) -> tuple[str, str]:
        """A search for the title. Raises `NotFound` where it does not bring the article."""
        turn = self.search(thought, bare(draft.title))
        if not shows(turn, draft):
            raise NotFound(draft.title)
        return turn

    def find(self, thought: str, draft: Draft) -> list[tuple[str, str]]:
        """Search turns until the article is there: by the words of the question, or by the title that it names. A
        search in vain by words is followed by one by the title. Raises `NotFound` where that is in vain too."""
        named = names(draft.question, bare(draft.title))
        if named and self.rng.random() >= BY_WORDS:
            return [self.open(thought, draft)]
        turn = self.search(thought, query_of(draft.question))
        if shows(turn, draft):
            return [turn]
        if not named:
            raise NotFound(draft.title)
        return [turn, self.open(f"not found: {bare(draft.title)}", draft)]

    def look_up(self, query: Query) -> list[tuple[str, str]]:
        """The search turns for all hops."""
        turns = self.find("search", query.hops[0])
        for before, draft in pairwise(query.hops):
            turns.append(self.open(before.answer, draft))
        return turns

    # -- roles --------------------------------------------------------------------------------------------------------

    def solve(self, query: Query) -> Demonstration:
        return solved(self.worded(query.question), self.look_up(query), query)

    def judge(self, query: Query) -> Demonstration:
        candidate, correct = self.candidate(query)
        return judged(self.worded(query.question), self.look_up(query), query, candidate, correct)

    def candidate(self, query: Query) -> tuple[str, bool]:
        """An answer to be judged: right half of the time; half of all in other words, whether right or wrong, so that
        the wording tells nothing."""
        correct = self.rng.random() < 0.5
        text = query.answer.text if correct else self.wrong(query)
        return (text if self.rng.random() < 0.5 else in_other_words(Span(text, kind_of(text)), self.rng)), correct

    def follow_ups(self, shown: Draft, most: int) -> list[Demonstration]:
        """Other questions about the page just read, solved or judged without another search: a page costs more to read
        than a question."""
        others = [query for query in self.about[shown.title] if len(query.hops) == 1 and query.hops[0] != shown]
        return [self.follow_up(query) for query in self.rng.sample(others, min(len(others), most))]

    def follow_up(self, query: Query) -> Demonstration:
        question = self.worded(query.question)
        with suppress(NotFound):
            if self.rng.random() < 0.5:
                return judged(question, [], query, *self.candidate(query))
        return solved(question, [], query)

    def wrong(self, query: Query) -> str:
        """A wrong answer of the right one's kind: the intermediate one, a near miss, another phrase of the page, or the
        answer of another question. Raises `NotFound` where all are too like the right one."""
        right, same, last = query.answer, self.by_kind[query.answer.kind], query.hops[-1]
        near = near_miss(right, self.rng)
        sources = [
            [draft.answer for draft in query.hops[:-1]],
            [near] if near else [],
            [span.text for span in other_spans(last, self.leads[last.title]) if span.kind == right.kind],
            self.rng.sample(same, min(len(same), OTHERS)),
        ]
        fit = [
            [text for text in source if not overlap(text, right.text) and not names(query.question, text)]
            for source in sources
        ]
        if not any(fit):
            raise NotFound(right.text)
        return self.rng.choice(self.rng.choice([source for source in fit if source]))

    def worded(self, question: str) -> str:
        """As people type it: half of the time in lower case, mostly without the question mark."""
        if self.rng.random() < 0.5:
            return question
        return question.lower() if self.rng.random() < 0.3 else question.lower().rstrip("?")

    # -- tasks --------------------------------------------------------------------------------------------------------

    def set_task(self, query: Query, told: bool = False) -> Demonstration:
        """A task on the article that the query starts from; `told`: the prompt names the number of hops."""
        kind, fields = ("task_by_hops", {"hops": str(len(query.hops))}) if told else ("task_from_topic", {})
        return self._task(kind, fields | {"topic": query.hops[0].title}, query, [])

    def set_related_task(self, parent: Query, told: bool = False) -> Demonstration:
        """By width: a question on another article that the parent's page names. By depth: a hop more on the same way,
        or a hop less. `told`: the prompt also shows the parent's answer and how most attempts answered."""
        related = self.related(parent)
        if not related:
            raise NotFound(parent.question)
        way, query = self.rng.choice(related)
        fields = {"direction": self.direction(parent, query), "way": way, "question": parent.question}
        if told:
            attempted = parent.answer.text if self.rng.random() < 0.6 else self.wrong(parent)
            fields |= {"answer": parent.answer.text, "attempted": attempted}
        before = self.find("search", parent.hops[0]) if way == "width" else []
        return self._task("task_from_result" if told else "task_from_question", fields, query, before)

    def related(self, parent: Query) -> list[tuple[str, Query]]:
        """(way, query) of all the tasks that vary the parent."""
        start = parent.hops[0]
        lead = sentences(self.leads[start.title])
        named = {span.text for sentence in lead for span in spans(sentence)} - {start.title}
        wide = [query for title in sorted(named & set(self.about)) for query in self.about[title]]
        same_way = [q for q in self.about[start.title] if q.hops[0] == start and len(q.hops) != len(parent.hops)]
        return [("width", q) for q in wide if q.answer != parent.answer] + [("depth", q) for q in same_way]

    def direction(self, parent: Query, query: Query) -> str:
        more = len(query.hops) - len(parent.hops)
        return self.rng.choice(("harder", "easier")) if not more else "harder" if more > 0 else "easier"

    def _task(self, kind: str, fields: dict[str, str], query: Query, before: list) -> Demonstration:
        """Searches by titles, since no question is there yet."""
        turns, thought = list(before), f"also named: {bare(query.hops[0].title)}" if before else "search"
        for draft in query.hops:
            turns.append(self.open(thought, draft))
            thought = draft.answer
        task = f"<question>{query.question}</question><answer>{query.answer.text}</answer>"
        return Demonstration(kind, fields, (*turns, (f"<think>{thought}</think>{task}", None)))


def solved(question: str, turns: list[tuple[str, str]], query: Query) -> Demonstration:
    final = f"<think>{read(question, query)}</think><answer>{query.answer.text}</answer>"
    return Demonstration("policy", {"question": question}, (*turns, (final, None)))


def judged(question: str, turns: list[tuple[str, str]], query: Query, candidate: str, correct: bool) -> Demonstration:
    final = conclude(read(question, query), candidate, correct)
    return Demonstration("judge", {"question": question, "answer": candidate}, (*turns, (final, None)))


def read(question: str, query: Query) -> str:
    """What is thought of the last page."""
    return f"{question}\nAnswer: {query.answer.text}"


def other_spans(draft: Draft, lead: str) -> list[Span]:
    """Phrases of the page's sentences that do not hold the answer. Another part of its own sentence, such as a larger
    place, may be right too."""
    return [span for sentence in sentences(lead) if draft.answer not in sentence for span in spans(sentence)]


def shows(turn: tuple[str, str], draft: Draft) -> bool:
    """Is the draft's article in the turn's response?"""
    return f'"{draft.title}"\n' in turn[1]


def two_hop_queries(sound: Sequence[Draft]) -> list[Query]:
    by_title: dict[str, list[Draft]] = {}
    for draft in sound:
        by_title.setdefault(bare(draft.title).lower(), []).append(draft)
    pairs = [(first, second) for first in sound for second in by_title.get(first.answer.lower(), ())]
    found = [(joined(first, second), first, second) for first, second in pairs if first.title != second.title]
    return [Query(question, (first, second)) for question, first, second in found if question]


# --- the mix of demonstrations

ROLE_MIX = {"solve": 0.40, "judge": 0.34, "topic": 0.12, "hops": 0.03, "related": 0.06, "result": 0.05}
TWO_HOPS = 0.3
"""Share of demonstrations of two hops, where there are any."""


def conversation(teacher: ProseTeacher, follow_ups: int) -> list[Demonstration]:
    """One of a random role; where a question was solved or judged, so many follow-ups at most on its last page."""
    first, query = drawn(teacher)
    more = teacher.follow_ups(query.hops[-1], follow_ups) if first.prompt in ("policy", "judge") else []
    return [first, *more]


def drawn(teacher: ProseTeacher) -> tuple[Demonstration, Query]:
    while True:
        role = teacher.rng.choices(list(ROLE_MIX), list(ROLE_MIX.values()))[0]
        query = teacher.rng.choice(
            teacher.double if teacher.double and teacher.rng.random() < TWO_HOPS else teacher.single
        )
        with suppress(NotFound):
            demonstration = play(teacher, role, query)
            if len(demonstration.turns) <= MOST_TURNS:
                return demonstration, query


def play(teacher: ProseTeacher, role: str, query: Query) -> Demonstration:
    if role in ("topic", "hops"):
        return teacher.set_task(query, told=role == "hops")
    if role in ("related", "result"):
        return teacher.set_related_task(query, told=role == "result")
    return teacher.solve(query) if role == "solve" else teacher.judge(query)
