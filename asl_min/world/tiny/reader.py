"""What the teacher reads and thinks: pages found with the real search tool, and the facts that stand on them."""

import random
from dataclasses import dataclass

from asl_min.corpus import Passage
from asl_min.protocol import render_tool_call
from asl_min.search.bm25 import Bm25Search
from asl_min.search.tool import respond
from asl_min.world.passages import SHOWN, passages, shown
from asl_min.world.relations import RELATIONS
from asl_min.world.world import Query, World

TOP_K = 2
"""Passages a query, as in configs/tiny.yaml."""


class NotFound(LookupError):
    """The search tool does not find a page that the teacher needs."""


@dataclass(frozen=True)
class Reading:
    """What has been read before a task is looked up: the turns so far, the thought they end in, the entities whose
    pages are known."""

    turns: tuple[tuple[str, str], ...] = ()
    thought: str = "search"
    seen: frozenset[str] = frozenset()


@dataclass
class Reader:
    """Reads the pages of one world with one random stream."""

    world: World
    rng: random.Random

    def __post_init__(self):
        rows = [p["contents"].split("\n", 1) for p in passages(self.world)]
        pages = [Passage(str(i), title.strip('"'), text) for i, (title, text) in enumerate(rows)]
        self.tool = Bm25Search(pages, TOP_K)

    def shown(self, name: str, relation: str) -> str:
        """The value of a relation as the pages of an entity spell it; of several right things, one that is listed."""
        entity = self.world.entities[name]
        if RELATIONS[relation].many:
            return self.rng.choice(entity.facts[relation].answers[: min(entity.facts[relation].things, SHOWN)])
        return shown(entity, relation, self.world)

    def thought(self, name: str, relation: str, value: str) -> str:
        """What is thought of a page: the fact, and what it was read from where it does not stand there."""
        entity, found = self.world.entities[name], f"{RELATIONS[relation].word}: {value}"
        if relation == "second":
            return f"by size: {', '.join(entity.lists['cities'][:2])} ; {found}"
        if relation in ("neighbours", "users"):
            return f"{relation}: {', '.join(entity.lists[relation])} ; {found}"
        if relation == "century":
            return f"year: {entity.facts['year'].answers[0]} ; {found}"
        return found

    def other_value(self, name: str, relation: str, right: tuple[str, ...], elsewhere: float = 0.3) -> str:
        """A wrong value: the same fact of another entity in this share of cases, else another fact from the same
        page."""
        entity = self.world.entities[name]
        values = [self.shown(name, r) for r in entity.facts if r != relation]
        if self.rng.random() < elsewhere or not values:
            peer = self.rng.choice([e for e in self.world.of_kind(entity.kind) if relation in e.facts])
            values = [self.shown(peer.name, relation)]
        values = [v for v in values if v not in right] or [name]
        return self.rng.choice(values)

    def search(self, thought: str, query: str) -> tuple[str, str]:
        """Raises `NotFound` where the page of the entity is not among what the tool finds."""
        found = respond(self.tool, [query])
        if f'"{self.world.entities[self._canonical(query)].title}"\n' not in found:
            raise NotFound(query)
        return f"<think>{thought}</think>{render_tool_call(query)}", found

    def look_up(self, query: Query, hops: int, reading: Reading = Reading()) -> tuple[list, str]:
        """Search turns along the first `hops` relations of a query, and the thought that the last page gives rise to.

        Pages of the entities that have been read already are not searched again; what they say joins the next thought.
        """
        turns, name, thought = [], query.start, reading.thought
        for relation in query.path[:hops]:
            entity = self.world.entities[self._canonical(name)]
            if entity.name not in reading.seen:
                turns.append(self.search(thought, thought.rsplit(": ", 1)[1] if ": " in thought else name))
                thought = ""
            name = self.shown(entity.name, relation)
            thought = f"{thought} ; {self.thought(entity.name, relation, name)}".removeprefix(" ; ")
        return turns, thought

    def _canonical(self, name: str) -> str:
        return self.world.by_alias[name.lower()]
