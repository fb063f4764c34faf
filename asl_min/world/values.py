"""How the embedded world spells names and numbers: as its pages show them, and in the other ways that are as right."""

import random
import re
import unicodedata

WORDS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def fold(name: str) -> str:
    """ASCII form of a name: accents dropped, spaces single, no brackets, commas or double dashes."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"\s+", " ", re.sub(r"\(.*?\)|[,\"`]", " ", ascii_name)).strip()


def round_number(number: float) -> int:
    """Three significant digits."""
    whole = round(number)
    return round(whole, -max(len(str(whole)) - 3, 0))


def spell(number: int) -> str:
    """2140000 -> "2.14 million", 47800 -> "47.8 thousand"."""
    unit, name = (1_000_000, " million") if number >= 1_000_000 else (1000, " thousand") if number >= 1000 else (1, "")
    return f"{number / unit:g}{name}"


def spell_number(number: float, unit: str = "") -> list[str]:
    """All right ways to write a number, rounded to three digits, the one that pages show first; with and without its
    unit."""
    rounded = round_number(number)
    bare = [spell(rounded), f"{rounded:,}", str(rounded)]
    return list(dict.fromkeys([f"{text} {unit}" for text in bare] + bare if unit else bare))


def spell_count(number: int) -> list[str]:
    """3 -> "3", "three"."""
    return [str(number), WORDS[number]]


def without_decimals(text: str) -> str:
    """ "2.14 million" -> "2 million": nearly right, and wrong. Anything else stays as it is."""
    return re.sub(r"(?<=\d)\.\d+(?= (million|thousand)\b)", "", text)


def near_miss(text: str, rng: random.Random) -> str | None:
    """A wrong value that looks like the right one: its decimals left out, a count, number or century beside it; None
    where there is no such value."""
    if (shorter := without_decimals(text)) != text:
        return shorter
    if match := re.fullmatch(r"(\d+)(st|nd|rd|th)( century)?", text):
        number = int(match[1]) + rng.choice((-1, 1))
        return f"{ordinal(number)}{match[3] or ''}"
    if match := re.fullmatch(r"(\d{1,4})( m)?", text):
        return f"{abs(int(match[1]) + rng.choice((-1, 1)))}{match[2] or ''}"
    return None


def ordinal(number: int) -> str:
    """Up to 29."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number not in (11, 12, 13) else "th"
    return f"{number}{ending}"


def spell_century(year: int) -> list[str]:
    """1898 -> "19th century", and shorter."""
    name = ordinal((year - 1) // 100 + 1)
    return [f"{name} century", name, f"the {name} century"]


def spell_metres(metres: int) -> list[str]:
    return [f"{metres} m", f"{metres} metres", str(metres)]
