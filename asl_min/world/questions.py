"""Questions about a world: queries in words, drawn at random, and the sets that the evaluation uses."""

import random
from collections.abc import Iterator, Sequence

from asl_min.rewards import normalize
from asl_min.world.relations import MAX_HOPS, RELATIONS, paths_by_relation
from asl_min.world.world import Query, World

DRAWS = 30
KINDS = ("city", "country", "airport", "currency", "language", "element")
STRATA = (("seen", "seen"), ("held_out", "seen"), ("seen", "held_out"))
"""Phrasing and kind of path of the evaluation's questions, in turn; of one hop, every path is seen."""


def ask(query: Query, rng: random.Random, phrasing: str = "seen") -> str:
    """A query in words: the last relation asked, the earlier ones nested as noun phrases."""
    subject = query.start
    for relation in query.path[:-1]:
        subject = rng.choice(RELATIONS[relation].phrases(phrasing)).format(subject)
    text = rng.choice(RELATIONS[query.path[-1]].questions(phrasing)).format(subject)
    return text[0].upper() + text[1:].replace("the the ", "the ").replace("The the ", "The ")


def is_sound(query: Query, world: World) -> bool:
    """Answerable, without visiting a place twice, not answered by the start's own facts already (no shortcut), and
    without its answer in the start's name."""
    nodes, answers = world.walk(query), world.answers(query)
    if not answers or len(set(nodes)) < query.hops or answers[0] in nodes:
        return False
    if f" {normalize(answers[0])} " in f" {normalize(query.start)} ":
        return False
    return query.hops == 1 or all(world.answers(Query(node, query.path[-1:]))[:1] != answers[:1] for node in nodes[:-1])


def sample_query(
    world: World,
    hops: int,
    rng: random.Random,
    start: str | None = None,
    relation: str | None = None,
    path_kind: str = "seen",
) -> Query | None:
    """A sound query of this many hops along a path of this kind, from `start` or from anywhere, that asks for
    `relation` or for any; None when none is found in `DRAWS` draws a relation.

    The last relation is drawn first, then the path and the start, so that every relation is asked about equally often.
    """
    kinds = (world.entities[start].kind,) if start else KINDS
    options = paths_by_relation(kinds, hops, path_kind)
    asked = [name for name in options if relation in (None, name)]
    for name in rng.sample(asked, len(asked)):
        for _ in range(DRAWS):
            path = rng.choice(options[name])
            starts = [start] if start else [entity.name for entity in world.of_kind(RELATIONS[path[0]].subject)]
            query = Query(rng.choice(starts), path) if starts else None
            if query and is_sound(query, world):
                return query
    return None


def questions(world: World, per_hop: int, seed: int, without: Sequence[dict] = ()) -> list[dict]:
    """A QA set in the FlashRAG form, `per_hop` distinct queries of each number of hops, none of them among `without`.

    Strata take turns, and within each the relations that are asked for: the first rows of a number of hops are as
    balanced as all of them.
    """
    rng, rows = random.Random(seed), []
    seen = {Query(row["metadata"]["start"], tuple(row["metadata"]["path"])) for row in without}
    for hops in range(1, MAX_HOPS + 1):
        strata = STRATA if hops > 1 else STRATA[:2]
        streams = [_stream(world, hops, rng, path_kind, seen) for _, path_kind in strata]
        for number in range(per_hop):
            turn = number % len(strata)
            rows.append(_row(next(streams[turn]), world, f"hop{hops}_{number}", rng, *strata[turn]))
    return rows


def _stream(world: World, hops: int, rng: random.Random, path_kind: str, seen: set[Query]) -> Iterator[Query]:
    """Ever new queries, each of the possible relations in turn, in random order."""
    relations = list(paths_by_relation(KINDS, hops, path_kind))
    while True:
        for relation in rng.sample(relations, len(relations)):
            query = sample_query(world, hops, rng, relation=relation, path_kind=path_kind)
            if query and query not in seen:
                seen.add(query)
                yield query


def _row(query: Query, world: World, name: str, rng: random.Random, phrasing: str, path_kind: str) -> dict:
    metadata = {"hops": query.hops, "relation": query.path[-1], "phrasing": phrasing, "path_kind": path_kind}
    metadata |= {"start": query.start, "path": list(query.path)}
    golden = list(world.answers(query))
    return {"id": name, "question": ask(query, rng, phrasing), "golden_answers": golden, "metadata": metadata}
