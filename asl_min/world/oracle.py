"""The embedded world's oracle: is a question answerable, is an answer right, how many hops. For evaluation only.

Making or asking one in a training phase raises `gold.GoldAccessError`, unless the recipe swaps it in openly
(`oracle_from_round`).
"""

import re
from dataclasses import dataclass
from functools import cached_property

from asl_min.rewards import exact_match
from asl_min.run import gold
from asl_min.world.relations import RELATIONS
from asl_min.world.world import FACTS, Query, World, load_world


@dataclass(frozen=True)
class Oracle:
    world: World

    @classmethod
    def of(cls, half: str) -> "Oracle":
        return cls(load_world(half))

    @cached_property
    def _asks(self) -> list[tuple[re.Pattern, str]]:
        return [(_pattern(text), name) for name, relation in RELATIONS.items() for text in relation.asks]

    @cached_property
    def _nouns(self) -> list[tuple[re.Pattern, str]]:
        leading = {name: relation for name, relation in RELATIONS.items() if relation.leads_on}
        return [(_pattern(text), name) for name, relation in leading.items() for text in relation.nouns]

    @cached_property
    def _read_before(self) -> dict[str, Query | None]:
        """Noun phrases, so that a long question with many readings takes no longer than its length squared."""
        return {}

    def parse(self, question: str) -> Query | None:
        """The query that a question asks; None if it is not one of the world's questions or names no entity of it."""
        gold.refuse_in_training("the oracle", FACTS)
        return self._read(question.strip(), self._asks)

    def _subject(self, words: str) -> Query | None:
        """An entity's name (no hop yet) or a nested noun phrase."""
        if words not in self._read_before:
            self._read_before[words] = self._reading(words)
        return self._read_before[words]

    def _reading(self, words: str) -> Query | None:
        for spelling in (words, words.removeprefix("the ")):  # "the {}" around "the capital of X" is written once
            if name := self.world.by_alias.get(spelling.lower()):
                return Query(name, ())
        return self._read(words, self._nouns) or self._read(f"the {words}", self._nouns)

    def _read(self, words: str, patterns: list[tuple[re.Pattern, str]]) -> Query | None:
        """The first reading in which each relation is asked of an entity of its kind."""
        for pattern, relation in patterns:
            subject = self._subject(match[1]) if (match := pattern.fullmatch(words)) else None
            if subject and self._kind(subject) == RELATIONS[relation].subject:
                return Query(subject.start, (*subject.path, relation))
        return None

    def _kind(self, query: Query) -> str:
        return RELATIONS[query.path[-1]].object if query.path else self.world.entities[query.start].kind

    def answers(self, question: str) -> tuple[str, ...]:
        """All right answers; empty when the question is not answerable."""
        query = self.parse(question)
        return self.world.answers(query) if query else ()

    def answerable(self, question: str) -> bool:
        return bool(self.answers(question))

    def right(self, question: str, answer: str | None) -> bool:
        return exact_match(answer, self.answers(question))

    def hops(self, question: str) -> int | None:
        query = self.parse(question)
        return query.hops if query else None


def _pattern(template: str) -> re.Pattern:
    """The first letter counts in either case: a question opens with a capital, whatever stands first."""
    first, rest = ("", template) if template.startswith("{}") else (template[0], template[1:])
    return re.compile(f"(?i:{re.escape(first)})" + re.escape(rest).replace(r"\{\}", "(.{1,200})"))
