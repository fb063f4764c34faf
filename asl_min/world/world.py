"""The embedded world: real countries and cities, the passages that describe them and the questions they answer.

A `World` is a set of entities whose facts are either values (a currency) or names of other entities (a capital). Two
disjoint halves by country ship with the package: on "base" the tiny base model's demonstrations are built, on "target"
the loop runs and is evaluated. A question is a `Query`: a start entity and a path of relations, one per hop.

Training reads only the passages. The facts are gold: `load_world` refuses to run inside a training phase (see
`gold.py`).
"""

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

from asl_min.run import gold
from asl_min.run.gold import GEOGRAPHY


@dataclass(frozen=True)
class Relation:
    """One kind of fact: whose it is, what it names, and how it is asked for, whole (`asks`) or inside another question
    (`nouns`)."""

    subject: str
    object: str
    asks: tuple[str, ...]
    nouns: tuple[str, ...] = ()


RELATIONS = {
    "country": Relation(
        "city",
        "country",
        ("Which country is {} in?", "In which country does {} lie?"),
        ("the country where {} lies", "the country that {} belongs to"),
    ),
    "capital": Relation(
        "country", "city", ("What is the capital of {}?", "Which city is the capital of {}?"), ("the capital of {}",)
    ),
    "largest": Relation(
        "country",
        "city",
        ("What is the largest city of {}?", "Which city is the largest of {}?"),
        ("the largest city of {}",),
    ),
    "continent": Relation("country", "value", ("Which continent is {} in?", "On which continent does {} lie?")),
    "currency": Relation("country", "value", ("What is the currency of {}?", "Which money is used in {}?")),
    "calling_code": Relation(
        "country", "value", ("What is the calling code of {}?", "Which code is dialled to call {}?")
    ),
    "domain": Relation(
        "country", "value", ("What is the internet domain of {}?", "Which internet domain belongs to {}?")
    ),
    "neighbour": Relation("country", "value", ("Which country borders {}?", "What is a neighbour of {}?")),
    "time_zone": Relation("city", "value", ("What is the time zone of {}?", "Which time zone is used in {}?")),
    "population": Relation("city", "value", ("What is the population of {}?", "How many people live in {}?")),
}


@dataclass(frozen=True)
class Fact:
    """The right answers to one relation of one entity, the canonical one first, aliases and other right answers after
    it."""

    answers: tuple[str, ...]


@dataclass(frozen=True)
class Entity:
    """A country or a city with its facts by relation; a country also has the names of its own cities and its
    neighbours."""

    name: str
    kind: str
    facts: dict[str, Fact]
    aliases: tuple[str, ...] = ()
    cities: tuple[str, ...] = ()
    neighbours: tuple[str, ...] = ()

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

    def of_kind(self, kind: str) -> list[Entity]:
        return [e for e in self.entities.values() if e.kind == kind]

    def answers(self, query: Query) -> tuple[str, ...]:
        """All right answers of a query, canonical first; empty when a hop leads nowhere."""
        nodes = self.walk(query)
        last = self.entities.get(nodes[-1]) if len(nodes) == query.hops else None
        if last is None or query.path[-1] not in last.facts:
            return ()
        return last.facts[query.path[-1]].answers

    def walk(self, query: Query) -> list[str]:
        """Names of the entities a query passes through, the start included, the final answer not."""
        nodes = [query.start]
        for relation in query.path[:-1]:
            entity = self.entities.get(nodes[-1])
            if entity is None or relation not in entity.facts:
                break
            nodes.append(entity.facts[relation].answers[0])
        return nodes


def load_world(half: str) -> World:
    """The shipped half "base" or "target". Raises `gold.GoldAccessError` inside a training phase."""
    gold.refuse_in_training("the embedded world's facts", GEOGRAPHY)
    return world_from_rows(json.loads(GEOGRAPHY.read_text()), half)


def world_from_rows(geography: dict, half: str) -> World:
    countries = [c for c in geography["countries"] if c["half"] == half]
    aliases = {c["name"]: c["aliases"] for c in geography["countries"]}
    entities = {}
    for row in countries:
        own = [city for city in geography["cities"] if city["country"] == row["name"]]
        facts = {
            "capital": Fact((row["capital"],)),
            "largest": Fact((row["largest"],)),
            "continent": Fact((row["continent"],)),
            "currency": Fact(tuple(row["currency"])),
            "calling_code": Fact((row["calling_code"],)),
            "domain": Fact((row["domain"],)),
        }
        if row["neighbours"]:
            names = row["neighbours"]
            facts["neighbour"] = Fact((*names, *(a for n in names for a in aliases.get(n, []))))
        cities = tuple(city["name"] for city in own)
        entities[row["name"]] = Entity(
            row["name"], "country", facts, tuple(row["aliases"]), cities, tuple(row["neighbours"])
        )
        for city in own:
            people = city["population"]
            city_facts = {
                "country": Fact((row["name"], *row["aliases"])),
                "time_zone": Fact((city["time_zone"],)),
                "population": Fact((spell_population(people), f"{people:,}", str(people))),
            }
            entities[city["name"]] = Entity(city["name"], "city", city_facts)
    return World(entities)


def spell_population(people: int) -> str:
    """2140000 -> "2.14 million", 47800 -> "47.8 thousand"."""
    unit, name = (1_000_000, " million") if people >= 1_000_000 else (1000, " thousand") if people >= 1000 else (1, "")
    return f"{people / unit:g}{name}"


def without_decimals(people: str) -> str:
    """ "2.14 million" -> "2 million": nearly right, and wrong. Anything else stays as it is."""
    return re.sub(r"(?<=\d)\.\d+(?= (million|thousand)$)", "", people)


# --- passages -------------------------------------------------------------------------------------------------------


def choose(options: tuple[str, ...], *key: str) -> str:
    """A choice that depends on the key only, so that a world always has the same passages."""
    return options[crc32("|".join(key).encode()) % len(options)]


def passages(world: World) -> list[dict]:
    """The world as a Search-R1 corpus: rows `{"id", "contents": '"Title"\\ntext'}`; a city has one passage, a country
    three."""
    texts = [
        (e.title, text)
        for e in world.entities.values()
        for text in (country_texts(e, world) if e.kind == "country" else [city_text(e, world)])
    ]
    return [{"id": str(n), "contents": f'"{title}"\n{text}'} for n, (title, text) in enumerate(texts)]


CITY_TEXTS = (
    "{name} is a city in {country}. Its time zone is {time_zone} and its population is {population}.",
    "{name} lies in {country}. The city has {population} people and its time zone is {time_zone}.",
    "The city of {name} is in {country}; {population} people live there. Time zone: {time_zone}.",
)
PLACE_TEXTS = (
    "{name} is a country in {continent}. Its capital is {capital} and its largest city is {largest}.",
    "{name} lies in {continent}. The capital is {capital}; the largest city is {largest}.",
    "The country {name} is part of {continent}. Capital: {capital}. Largest city: {largest}.",
)
MONEY_TEXTS = (
    "The currency of {name} is the {currency}. Its calling code is {calling_code} and its internet domain {domain}.",
    "In {name} people pay with the {currency}. The internet domain is {domain}; the calling code is {calling_code}.",
    "{name}: calling code {calling_code}, internet domain {domain}, currency {currency}.",
)
SHOWN_NEIGHBOURS = 4
LINK_TEXTS = (
    "{name} borders {neighbours}. Cities of {name} are {cities}.",
    "The neighbours of {name} are {neighbours}. Its cities include {cities}.",
)


def mention(city: Entity, world: World) -> str:
    """What the passage of a city calls its country: the name, or for one city in four the short alias if there is
    one."""
    country = world.entities[city.facts["country"].answers[0]]
    alias = choose(("alias", "name", "name", "name"), "mention", city.name) == "alias"
    return country.short_alias if alias and country.short_alias else country.name


def city_text(city: Entity, world: World) -> str:
    values = {relation: fact.answers[0] for relation, fact in city.facts.items()} | {"country": mention(city, world)}
    return choose(CITY_TEXTS, "city", city.name).format(name=city.name, **values)


def country_texts(country: Entity, world: World) -> list[str]:
    name = country.name
    values = {relation: fact.answers[0] for relation, fact in country.facts.items()}
    values["currency"] = "{} ({})".format(*country.facts["currency"].answers)
    values["neighbours"] = (
        join_names(country.neighbours[:SHOWN_NEIGHBOURS]) if country.neighbours else "no other country"
    )
    values["cities"] = join_names(shown_cities(country))
    return [
        choose(texts, str(part), name).format(name=name, **values)
        for part, texts in enumerate((PLACE_TEXTS, MONEY_TEXTS, LINK_TEXTS))
    ]


def shown_cities(country: Entity) -> tuple[str, ...]:
    """The cities that a country's passage lists: three that are neither its capital nor its largest, where it has
    such."""
    named = {country.facts["capital"].answers[0], country.facts["largest"].answers[0]}
    return tuple(city for city in country.cities if city not in named)[:3] or country.cities[:3]


def join_names(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# --- questions ------------------------------------------------------------------------------------------------------


def ask(query: Query, rng: random.Random) -> str:
    """A query in words: the last relation asked, the earlier ones nested as noun phrases."""
    subject = query.start
    for relation in query.path[:-1]:
        subject = rng.choice(RELATIONS[relation].nouns).format(subject)
    return rng.choice(RELATIONS[query.path[-1]].asks).format(subject)


def paths(kind: str, hops: int) -> Iterator[tuple[str, ...]]:
    """Every chain of `hops` relations that starts at an entity of this kind."""
    for name, relation in RELATIONS.items():
        if relation.subject != kind:
            continue
        if hops == 1:
            yield (name,)
        elif relation.nouns:
            yield from ((name, *rest) for rest in paths(relation.object, hops - 1))


def is_sound(query: Query, world: World) -> bool:
    """Answerable, without visiting a place twice, and not answered by the start's own facts already (no shortcut)."""
    nodes, answers = world.walk(query), world.answers(query)
    if not answers or len(set(nodes)) < query.hops or answers[0] in nodes:
        return False
    return query.hops == 1 or all(world.answers(Query(node, query.path[-1:]))[:1] != answers[:1] for node in nodes[:-1])


def sample_query(world: World, hops: int, rng: random.Random, start: str | None = None) -> Query | None:
    """A sound query of this many hops, from `start` or from anywhere; None when 50 draws find none.

    The path is drawn before the start, so that every relation is asked about equally often.
    """
    kinds = [world.entities[start].kind] if start else ["city", "country"]
    options = [(kind, path) for kind in kinds for path in paths(kind, hops)]
    for _ in range(50 if options else 0):
        kind, path = rng.choice(options)
        query = Query(start or rng.choice(world.of_kind(kind)).name, path)
        if is_sound(query, world):
            return query
    return None


def questions(world: World, per_hop: int, seed: int, without: Sequence[dict] = ()) -> list[dict]:
    """A QA set in the FlashRAG form, `per_hop` distinct queries of each of 1, 2 and 3 hops, none of them among
    `without`."""
    rng, rows = random.Random(seed), []
    seen = {Query(row["metadata"]["start"], tuple(row["metadata"]["path"])) for row in without}
    for hops in (1, 2, 3):
        while sum(row["metadata"]["hops"] == hops for row in rows) < per_hop:
            query = sample_query(world, hops, rng)
            if query is None or query in seen:
                continue
            seen.add(query)
            metadata = {"hops": hops, "start": query.start, "path": list(query.path)}
            rows.append(
                {
                    "id": f"hop{hops}_{len(rows)}",
                    "question": ask(query, rng),
                    "golden_answers": list(world.answers(query)),
                    "metadata": metadata,
                }
            )
    return rows
