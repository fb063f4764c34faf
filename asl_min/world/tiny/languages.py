"""Languages and currencies of the shipped facts, from the Unicode CLDR by babel."""

from collections import Counter

from asl_min.world.passages import SHOWN
from asl_min.world.values import fold, spell_count, spell_number
from asl_min.world.world import row_of

OFFICIAL = ("official", "de_facto_official")


def official_language(iso: str, taken: set[str]) -> str | None:
    """The CLDR code of the official language with most speakers whose name is not a country's too (`taken`)."""
    from babel import Locale
    from babel.core import get_global

    spoken, english = get_global("territory_languages").get(iso, {}), Locale("en").languages
    shares = {code: row["population_percent"] for code, row in spoken.items() if row["official_status"] in OFFICIAL}
    named = [code for code in shares if fold(english.get(code.split("_")[0], "")) not in {*taken, ""}]
    best = max(named, key=shares.get, default=None)
    return best and best.split("_")[0]


def speakers(code: str, countries: dict[str, dict]) -> Counter:
    """ISO code of a country -> people who speak the language there."""
    from babel.core import get_global

    found: Counter = Counter()
    for iso, spoken in get_global("territory_languages").items():
        shares = [row["population_percent"] for key, row in spoken.items() if key.split("_")[0] == code]
        if iso in countries and shares:
            found[iso] = int(sum(shares) / 100 * countries[iso]["population"])
    return found


def language_row(code: str, countries: dict[str, dict], names: dict[str, str], halves: dict[str, str]) -> dict | None:
    """A language with a home among the countries."""
    from babel import Locale
    from babel.core import get_global

    english, homes = Locale("en"), speakers(code, countries)
    name = fold(english.languages.get(code, ""))
    if not homes or (" " in name and len(name) > 16):
        return None
    home = homes.most_common(1)[0][0]
    tag = get_global("likely_subtags").get(code, "").split("_")
    script = english.scripts.get(tag[1]) if len(tag) > 1 else None
    facts = {
        "code": [code],
        "script": [fold(script)] if script else [],
        "speakers": spell_number(sum(homes.values())),
        "home": [names[home]],
    }
    return row_of(name, "language", facts, half=halves[home])


def currency_name(code: str, geonames: str) -> str:
    """CLDR's English name, such as "Swiss Franc"; GeoNames' own where there is none."""
    from babel import Locale

    return fold(Locale("en").currencies.get(code, geonames.strip()))


def currency_rows(countries: dict[str, dict], names: dict[str, str], halves: dict[str, str]) -> list[dict]:
    users: dict[str, list[str]] = {}
    for iso, country in countries.items():
        users.setdefault(country["currencycode"], []).append(iso)
    rows = []
    for code, isos in sorted(users.items()):
        most = max(isos, key=lambda iso: countries[iso]["population"])
        shown = [names[iso] for iso in isos]
        facts = {
            "money_code": [code],
            "user": shown,
            "users": spell_count(len(isos)) if len(isos) <= SHOWN else [],
        }
        rows.append(row_of(countries[most]["money"], "currency", facts, half=halves[most], users=shown))
    return rows
