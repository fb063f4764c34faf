"""Alternate worlds: invented names and shuffled facts, so that only reading the passages helps.

A base model shown one world of ~110 countries learns its names, not how to copy a name out of a passage. So every
demonstration world is new: each name is spliced from pieces of two base-half names of its kind, each fact is drawn
afresh.
"""

import random
import string

from asl_min.world.passages import SHOWN
from asl_min.world.values import spell_century, spell_count, spell_metres, spell_number
from asl_min.world.world import World, load_world, row_of, world_from_rows

CONTINENTS = ["Africa", "Asia", "Europe", "North America", "Oceania", "South America"]


class Names:
    """Draws distinct invented names from the pieces of the base half's names."""

    def __init__(self, rng: random.Random, base: World):
        self.rng, self.taken = rng, set()
        self.words = {kind: [w for e in of_kind for w in e.name.split()] for kind, of_kind in base.kinds.items()}
        elements = base.of_kind("element")
        self.words["person"] = [w for e in elements for w in e.facts["discoverer"].answers[0].split()]
        self.known = {
            relation: sorted({e.facts[relation].answers[0] for e in base.entities.values() if relation in e.facts})
            for relation in ("script", "series")
        }

    def word(self, kind: str) -> str:
        """The head of one name and the tail of another, cut anywhere."""
        head, tail = self.rng.choice(self.words[kind]), self.rng.choice(self.words[kind])
        head = head[: self.rng.randint(1, max(len(head) - 1, 1))]
        tail = tail[self.rng.randint(1, max(len(tail) - 1, 1)) :]
        return (head + tail.lower())[:12]

    def new(self, kind: str, two_words: float = 0.2, ending: str = "") -> str:
        while True:
            words = [self.word(kind) for _ in range(2 if self.rng.random() < two_words else 1)]
            name = " ".join(word[0].upper() + word[1:] for word in words) + ending
            if len(name) >= 4 and name[0].isalpha() and name.lower() not in self.taken:
                self.taken.add(name.lower())
                return name

    def code(self, letters: int) -> str:
        return "".join(self.rng.choices(string.ascii_uppercase, k=letters))

    def initials(self) -> str:
        while (code := self.code(self.rng.randint(2, 4))).lower() in self.taken:
            pass
        self.taken.add(code.lower())
        return code

    def symbol(self) -> str:
        return (self.code(1) + self.code(1).lower())[: self.rng.choice((1, 2, 2, 2))]


def alternate_world(seed: int, n_countries: int = 28) -> World:
    """A world of `n_countries` invented countries with 3 to 6 invented cities each, and all that goes with them."""
    rng = random.Random(seed)
    names = Names(rng, load_world("base"))
    countries = [names.new("country") for _ in range(n_countries)]
    currencies = [_currency_name(names) for _ in range(n_countries * 2 // 3)]
    languages = [names.new("language", 0.05) for _ in range(n_countries // 2)]
    elements = _elements(names, countries)
    continents = [*rng.sample(CONTINENTS, 4), names.new("country")]
    rows, users = list(elements), {name: [] for name in currencies}
    for name in countries:
        currency = rng.choice(currencies)
        users[currency].append(name)
        rows += _country(name, names, countries, continents, currency, rng.choice(languages), elements)
    rows += [_currency(name, used_in, names) for name, used_in in users.items() if used_in]
    rows += [_language(name, names, countries) for name in languages]
    return world_from_rows(rows)


def _country(
    name: str,
    names: Names,
    countries: list[str],
    continents: list[str],
    currency: str,
    language: str,
    elements: list[dict],
) -> list[dict]:
    """The country, its cities and their airports."""
    rng = names.rng
    cities = {names.new("city"): _number(rng, 2.5, 7.3) for _ in range(rng.randint(3, 6))}
    by_size = sorted(cities, key=cities.get, reverse=True)
    others = [country for country in countries if country != name]
    neighbours = rng.sample(others, rng.choice([0, 1, 2, 3, 4, 5, 6]))
    own = [row for row in elements if row["facts"]["found_in"] == [name]]
    last = max(own, key=lambda row: int(row["facts"]["year"][0]), default=None)
    facts = {
        "capital": [rng.choice(by_size)],
        "largest": by_size[:1],
        "second": by_size[1:2] if rng.random() < 0.9 else [],
        "continent": [rng.choice(continents)],
        "currency": [currency, names.code(3)],
        "calling_code": ["+" + "".join(rng.choices(string.digits, k=rng.randint(1, 3)))],
        "domain": ["." + names.code(2).lower()],
        "language": [language],
        "area": spell_number(_number(rng, 1, 7), "square km"),
        "people": spell_number(_number(rng, 3.5, 8.8)),
        "neighbour": neighbours,
        "neighbours": spell_count(len(neighbours)) if 0 < len(neighbours) <= SHOWN else [],
        "element": [last["name"]] if last else [],
    }
    rows = [row_of(name, "country", facts, _aliases(names), cities=by_size[:3], neighbours=neighbours)]
    zones = [f"{rng.choice(continents).split()[0]}/{names.new('city').replace(' ', '_')}" for _ in range(2)]
    for city, people in cities.items():
        airport = _airport_name(names, city) if rng.random() < 0.5 else None
        zone = rng.choice([*zones, f"{continents[0]}/{city}".replace(" ", "_")])
        facts = {
            "country": [name],
            "time_zone": [zone],
            "population": spell_number(people),
            "airport": [airport] if airport else [],
        }
        rows.append(row_of(city, "city", facts))
        if airport:
            facts = {"iata": [names.code(3)], "elevation": spell_metres(_number(rng, 0, 3.4)), "city": [city]}
            rows.append(row_of(airport, "airport", facts))
    return rows


def _number(rng: random.Random, low: float, high: float) -> int:
    """Between 10 to the power of these."""
    return int(10 ** rng.uniform(low, high))


def _aliases(names: Names) -> list[str]:
    """No alias for half of the countries, initials or another name for the rest."""
    kind = names.rng.choice(["none", "none", "initials", "name"])
    return [names.initials()] if kind == "initials" else [names.new("country")] if kind == "name" else []


def _airport_name(names: Names, city: str) -> str:
    """Half of the airports are called after their city."""
    own = f"{city} Airport"
    if names.rng.random() < 0.5 and own.lower() not in names.taken:
        names.taken.add(own.lower())
        return own
    return names.new("airport", 0.4, " Airport")


def _currency_name(names: Names) -> str:
    return names.new("currency", 0.8)


def _currency(name: str, used_in: list[str], names: Names) -> dict:
    counted = spell_count(len(used_in)) if len(used_in) <= SHOWN else []
    facts = {"money_code": [names.code(3)], "user": used_in, "users": counted}
    return row_of(name, "currency", facts, users=used_in)


def _language(name: str, names: Names, countries: list[str]) -> dict:
    rng = names.rng
    facts = {
        "code": [names.code(rng.choice((2, 2, 3))).lower()],
        "script": [rng.choice([*names.known["script"], names.new("language", 0)])],
        "speakers": spell_number(_number(rng, 3.5, 8.9)),
        "home": [rng.choice(countries)],
    }
    return row_of(name, "language", facts)


def _elements(names: Names, countries: list[str]) -> list[dict]:
    rng, rows = names.rng, []
    homes = rng.sample(countries, len(countries) // 3)
    for _ in range(14):
        year, series = rng.randint(1650, 2010), rng.choice(names.known["series"])
        who = [names.word("person"), names.word("person")]
        facts = {
            "symbol": [names.symbol()],
            "number": [str(rng.randint(1, 118))],
            "discoverer": [" ".join(word[0].upper() + word[1:] for word in who), who[1]],
            "year": [str(year)],
            "century": spell_century(year),
            "series": [series, f"{series}s"],
            "found_in": [rng.choice(homes)],
        }
        rows.append(row_of(names.new("element", 0), "element", facts))
    return rows
