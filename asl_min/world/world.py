"""The embedded world: real countries, cities, airports, currencies, languages and chemical elements with their facts.

Two disjoint halves ship with the package: on "base" the tiny bases' demonstrations are built, on "target" the loop
runs and is evaluated. A question is a `Query`: a start entity and a path of relations, one per hop.

Training reads only the passages. The facts are gold: `load_world` refuses to run inside a training phase (see
`gold.py`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from asl_min.run import gold
from asl_min.run.gold import FACTS
from asl_min.world.relations import RELATIONS


@dataclass(frozen=True)
class Fact:
    """The right answers to one relation of one entity. The first `things` of them are different things, the one that
    leads on first; other spellings of these stand after them."""

    answers: tuple[str, ...]
    things: int = 1


@dataclass(frozen=True)
class Entity:
    """A thing with its facts by relation. `lists` holds what its pages list: cities, neighbours, users."""

    name: str
    kind: str
    facts: dict[str, Fact]
    aliases: tuple[str, ...] = ()
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def short_alias(self) -> str | None:
        """The alias that passages show beside the name: the first one of at most 16 characters."""
        return next((a for a in self.aliases if len(a) <= 16), None)

    @property
    def title(self) -> str:
        return f"{self.name} ({self.short_alias})" if self.short_alias else self.name


@dataclass(frozen=True)
class Query:
    """A start entity's name and the relations to follow from it; one relation is one hop."""

    start: str
    path: tuple[str, ...]

    @property
    def hops(self) -> int:
        return len(self.path)


@dataclass(frozen=True)
class World:
    entities: dict[str, Entity]

    @cached_property
    def by_alias(self) -> dict[str, str]:
        """Lower-case name or alias -> canonical name; names win over aliases, ambiguous aliases are left out."""
        found: dict[str, list[str]] = {}
        for entity in self.entities.values():
            for alias in entity.aliases:
                found.setdefault(alias.lower(), []).append(entity.name)
        unique = {alias: names[0] for alias, names in found.items() if len(names) == 1}
        return unique | {name.lower(): name for name in self.entities}

    @cached_property
    def kinds(self) -> dict[str, list[Entity]]:
        found: dict[str, list[Entity]] = {}
        for entity in self.entities.values():
            found.setdefault(entity.kind, []).append(entity)
        return found

    def of_kind(self, kind: str) -> list[Entity]:
        return self.kinds.get(kind, [])

    def answers(self, query: Query) -> tuple[str, ...]:
        """All right answers of a query, canonical first; empty when a hop leads nowhere."""
        nodes = self.walk(query)
        last = self.entities.get(nodes[-1]) if len(nodes) == query.hops else None
        if last is None or query.path[-1] not in last.facts:
            return ()
        return last.facts[query.path[-1]].answers

    def walk(self, query: Query) -> list[str]:
        """Names of the entities a query passes through, the start included, the final answer not. A walk ends where
        several things are right."""
        nodes = [query.start]
        for relation in query.path[:-1]:
            entity = self.entities.get(nodes[-1])
            fact = entity.facts.get(relation) if entity else None
            if fact is None or fact.things > 1:
                break
            nodes.append(fact.answers[0])
        return nodes


def load_world(half: str) -> World:
    """The shipped half "base" or "target". Raises `gold.GoldAccessError` inside a training phase."""
    gold.refuse_in_training("the embedded world's facts", FACTS)
    rows = json.loads(FACTS.read_text())["entities"]
    aliases = {row["name"]: row["aliases"] for row in rows}
    return world_from_rows([row for row in rows if row["half"] == half], aliases)


def row_of(
    name: str,
    kind: str,
    facts: dict[str, list[str]],
    aliases: Sequence[str] = (),
    half: str | None = None,
    **lists: list[str],
) -> dict:
    """An entity as `world_from_rows` reads it; relations without an answer are left out. `half`: where it ships."""
    known = {relation: answers for relation, answers in facts.items() if answers}
    place = {"half": half} if half else {}
    return {"name": name, "kind": kind} | place | {"aliases": list(aliases), "facts": known, "lists": lists}


def world_from_rows(rows: Sequence[dict], aliases: dict[str, Sequence[str]] | None = None) -> World:
    """Rows `{name, kind, aliases, facts: {relation: answers}, lists}`. `aliases`: of all entities that facts name, the
    rows' own by default; they are right answers too."""
    known = {row["name"]: row["aliases"] for row in rows} if aliases is None else aliases
    entities = {}
    for row in rows:
        facts = {relation: _fact(relation, answers, known) for relation, answers in row["facts"].items()}
        lists = {name: tuple(listed) for name, listed in row.get("lists", {}).items()}
        entities[row["name"]] = Entity(row["name"], row["kind"], facts, tuple(row["aliases"]), lists)
    return World(entities)


def _fact(relation: str, answers: Sequence[str], aliases: dict[str, Sequence[str]]) -> Fact:
    also = [alias for answer in answers for alias in aliases.get(answer, ())]
    return Fact(tuple(dict.fromkeys([*answers, *also])), len(answers) if RELATIONS[relation].many else 1)
