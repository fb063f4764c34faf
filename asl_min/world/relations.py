"""The kinds of fact of the embedded world, how they are asked for, and the paths that they make: chains of relations,
one a hop.

Two things are held out of all demonstrations and prompts, so that there is something to generalise to: phrasings (of
each relation the last two questions and the last noun phrase), and pairs of neighbouring relations. A path that has
such a pair is a held-out path.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from zlib import crc32

import yaml

HELD_OUT_ASKS, HELD_OUT_NOUNS = 2, 1
FRAMES = ("Do you know {}?", "Can you name {}?", "Tell me, what is {}?")
"""Wordings that all relations share, around their first noun."""
MAX_HOPS = 4
HELD_OUT_SHARE = 0.18
"""Of the pairs. Of the paths of 2, 3 and 4 hops 22, 30 and 48% have one (tests/test_world.py)."""


@dataclass(frozen=True)
class Relation:
    """Whose fact it is (`subject`) and what it names (`object`): a kind of entity, or "value"; the rest as in
    relations.yaml."""

    subject: str
    object: str
    word: str
    asks: tuple[str, ...]
    nouns: tuple[str, ...] = ()
    many: bool = False
    reads: bool = False
    never_after: tuple[str, ...] = ()

    @property
    def leads_on(self) -> bool:
        return self.object != "value"

    def questions(self, phrasing: str) -> tuple[str, ...]:
        return _part(self.asks, HELD_OUT_ASKS, phrasing)

    def phrases(self, phrasing: str) -> tuple[str, ...]:
        """Noun phrases, for a question that goes on from here."""
        return _part(self.nouns, HELD_OUT_NOUNS, phrasing)


def _part(texts: tuple[str, ...], held_out: int, phrasing: str) -> tuple[str, ...]:
    return texts[:-held_out] if phrasing == "seen" else texts[-held_out:]


def _load() -> dict[str, Relation]:
    rows = yaml.safe_load((Path(__file__).parent / "relations.yaml").read_text())
    return {
        name: Relation(
            row["of"],
            row["to"],
            row["word"],
            (*(frame.format(row["nouns"][0]) for frame in FRAMES), *row["asks"]),
            tuple(row["nouns"]),
            row.get("many", False),
            row.get("reads", False),
            tuple(row.get("never_after", ())),
        )
        for name, row in rows.items()
    }


RELATIONS = _load()


def paths(kind: str, hops: int, after: str = "") -> Iterator[tuple[str, ...]]:
    """Every chain of `hops` relations that starts at an entity of this kind, to which `after` has led."""
    for name, relation in RELATIONS.items():
        if relation.subject != kind or after in relation.never_after:
            continue
        if hops == 1:
            yield (name,)
        elif relation.leads_on:
            yield from ((name, *rest) for rest in paths(relation.object, hops - 1, name))


def path_kind(path: tuple[str, ...]) -> str:
    """ "held_out" if a pair of neighbouring relations is, else "seen"."""
    return "held_out" if any(map(_is_held_out, path, path[1:])) else "seen"


def _is_held_out(first: str, second: str) -> bool:
    return crc32(f"{first}|{second}".encode()) < HELD_OUT_SHARE * 2**32


@lru_cache(maxsize=1024)
def paths_by_relation(kinds: tuple[str, ...], hops: int, kind_of_path: str) -> dict[str, list[tuple[str, ...]]]:
    """The paths that start at one of these kinds, by their last relation."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for kind in kinds:
        for path in paths(kind, hops):
            if path_kind(path) == kind_of_path:
                found.setdefault(path[-1], []).append(path)
    return found
