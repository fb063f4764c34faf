"""Alternate worlds: invented names and shuffled facts, so that only reading the passages helps.

A base model shown one world of ~110 countries learns its names, not how to copy a name out of a passage. So every
demonstration world is new: each name is spliced from pieces of two base-half names, each fact is drawn afresh.
"""

import random
import string

from asl_min.world.world import Entity, Fact, World, load_world, spell_population


class Names:
    """Draws distinct invented names from the pieces of the base half's names."""

    def __init__(self, rng: random.Random, base: World):
        self.rng, self.taken = rng, set()
        self.countries = [word for e in base.of_kind("country") for word in e.name.split()]
        self.cities = [word for e in base.of_kind("city") for word in e.name.split()]

    def word(self, source: list[str]) -> str:
        """The head of one name and the tail of another, cut anywhere."""
        head, tail = self.rng.choice(source), self.rng.choice(source)
        head = head[: self.rng.randint(1, max(len(head) - 1, 1))]
        tail = tail[self.rng.randint(1, max(len(tail) - 1, 1)) :]
        return (head + tail.lower())[:12]

    def new(self, source: list[str], two_words: float = 0.2) -> str:
        while True:
            words = [self.word(source) for _ in range(2 if self.rng.random() < two_words else 1)]
            name = " ".join(words)
            if len(name) >= 4 and name[0].isalpha() and name.lower() not in self.taken:
                self.taken.add(name.lower())
                return name[0].upper() + name[1:]

    def code(self, letters: int) -> str:
        return "".join(self.rng.choices(string.ascii_uppercase, k=letters))

    def initials(self) -> str:
        while (code := self.code(self.rng.randint(2, 4))).lower() in self.taken:
            pass
        self.taken.add(code.lower())
        return code


def alternate_world(seed: int, n_countries: int = 40) -> World:
    """A world of `n_countries` invented countries with 3 to 7 invented cities each."""
    rng = random.Random(seed)
    names = Names(rng, load_world("base"))
    continents = [
        *rng.sample(["Africa", "Asia", "Europe", "North America", "Oceania", "South America"], 4),
        names.new(names.countries),
    ]
    currencies = [names.new(names.countries, 0) for _ in range(12)]
    countries = [names.new(names.countries) for _ in range(n_countries)]
    entities = {}
    for name in countries:
        cities = tuple(names.new(names.cities) for _ in range(rng.randint(3, 7)))
        aliases = _aliases(name, names)
        neighbours = tuple(rng.sample([c for c in countries if c != name], rng.choice([0, 1, 2, 3, 4, 4])))
        facts = {
            "capital": Fact((rng.choice(cities),)),
            "largest": Fact((rng.choice(cities),)),
            "continent": Fact((rng.choice(continents),)),
            "currency": Fact((rng.choice(currencies), names.code(3))),
            "calling_code": Fact(("+" + "".join(rng.choices(string.digits, k=rng.randint(1, 3))),)),
            "domain": Fact(("." + names.code(2).lower(),)),
        }
        if neighbours:
            facts["neighbour"] = Fact(neighbours)
        entities[name] = Entity(name, "country", facts, aliases, cities, neighbours)
        zones = [f"{rng.choice(continents).split()[0]}/{names.new(names.cities).replace(' ', '_')}" for _ in range(2)]
        for city in cities:
            entities[city] = Entity(
                city,
                "city",
                _city_facts(name, aliases, rng.choice([*zones, f"{continents[0]}/{city}".replace(" ", "_")]), rng),
            )
    return World(entities)


def _aliases(name: str, names: Names) -> tuple[str, ...]:
    """No alias for half of the countries, initials or another name for the rest."""
    kind = names.rng.choice(["none", "none", "initials", "name"])
    if kind == "initials":
        return (names.initials(),)
    return (names.new(names.countries),) if kind == "name" else ()


def _city_facts(country: str, aliases: tuple[str, ...], zone: str, rng: random.Random) -> dict[str, Fact]:
    people = int(float(f"{10 ** rng.uniform(2.5, 7.3):.3g}"))
    return {
        "country": Fact((country, *aliases)),
        "time_zone": Fact((zone,)),
        "population": Fact((spell_population(people), f"{people:,}", str(people))),
    }
