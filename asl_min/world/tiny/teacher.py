"""The noisy teacher that the tiny base imitates: it plays the three roles with the real search tool, and errs on
purpose.

`Noise` holds the dials. Most errors are random (a sharper policy avoids them); two are systematic. The judge mostly
holds a multi-hop question's intermediate entity for its answer, a flaw that pays a policy for stopping early until the
judge is trained. Task writer and policy like to round: whoever takes the writer's own answers for right learns to round
as well, while the judge, who puts page and answer side by side, sees it.
"""

import random
from dataclasses import dataclass, replace

from asl_min.corpus import Passage
from asl_min.protocol import render_tool_call
from asl_min.search.bm25 import Bm25Search
from asl_min.search.tool import respond
from asl_min.world.world import (
    Entity,
    Query,
    World,
    ask,
    is_sound,
    mention,
    passages,
    paths,
    sample_query,
    shown_cities,
    without_decimals,
)

WORDS = {
    "country": "country",
    "capital": "capital",
    "largest": "largest city",
    "continent": "continent",
    "currency": "currency",
    "calling_code": "calling code",
    "domain": "internet domain",
    "neighbour": "neighbour",
    "time_zone": "time zone",
    "population": "population",
}


@dataclass(frozen=True)
class Noise:
    """Probability of each error of the teacher."""

    wrong_value: float = 0.15
    """The policy answers another value from the pages it read."""
    stop_early: float = 0.60
    """The policy answers the intermediate entity, drawn at each hop but the last."""
    verdict_flip: float = 0.0
    """The judge says the opposite of what it thinks."""
    judge_stops_early: float = 0.74
    """The judge holds a multi-hop question's first intermediate entity for its answer."""
    wrong_task_answer: float = 0.04
    """The task's own answer is another value."""
    rounds_answer: float = 0.6
    """The policy leaves out a population's decimals."""
    rounds_task: float = 0.95
    """So does the task's own answer."""


@dataclass(frozen=True)
class Demonstration:
    """A prompt (its name and fields) and the assistant's turns, each with the tool response after it (None after the
    last)."""

    prompt: str
    fields: dict[str, str]
    turns: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Reading:
    """What has been read before a task is looked up: the turns so far, the thought they end in, the entities whose
    pages are known."""

    turns: tuple[tuple[str, str], ...]
    thought: str
    seen: frozenset[str] = frozenset()


@dataclass
class Teacher:
    """Plays every role in one world with one random stream."""

    world: World
    rng: random.Random
    noise: Noise
    elsewhere: float = 0.3
    """Share of the wrong candidates for the judge that are the same fact of another place, but for the intermediate
    entities: their kind does not tell them, they must be compared with what was found."""

    def __post_init__(self):
        rows = [p["contents"].split("\n", 1) for p in passages(self.world)]
        self.tool = Bm25Search([Passage(str(i), title.strip('"'), text) for i, (title, text) in enumerate(rows)])

    # -- what pages show ---------------------------------------------------------------------------------------------

    def shown(self, name: str, relation: str) -> str:
        """The value of a relation as the pages of an entity spell it."""
        entity = self.world.entities[name]
        if relation == "country":
            return mention(entity, self.world)
        if relation == "neighbour":
            return self.rng.choice(entity.neighbours[:4])
        return entity.facts[relation].answers[0]

    def other_value(self, name: str, relation: str, right: tuple[str, ...], elsewhere: float = 0.3) -> str:
        """A wrong value: the same fact of another entity in this share of cases, else another fact from the same
        pages."""
        entity = self.world.entities[name]
        values = [self.shown(name, r) for r in entity.facts if r != relation]
        if self.rng.random() < elsewhere or not values:
            peer = self.rng.choice([e for e in self.world.of_kind(entity.kind) if relation in e.facts])
            values = [self.shown(peer.name, relation)]
        values = [v for v in values if v not in right] or [name]
        return self.rng.choice(values)

    def rounded(self, value: str, dial: float) -> str:
        """A population without its decimals, as often as the dial says; any other value as it is."""
        shorter = without_decimals(value)
        return shorter if dial and shorter != value and self.rng.random() < dial else value

    def search(self, thought: str, query: str) -> tuple[str, str]:
        return f"<think>{thought}</think>{render_tool_call(query)}", respond(self.tool, [query])

    def look_up(
        self, query: Query, hops: int, thought: str = "search", seen: frozenset[str] = frozenset()
    ) -> tuple[list, str]:
        """Search turns along the first `hops` relations of a query, and the thought that the last page gives rise to.

        Pages of the entities in `seen` have been read already and are not searched again; what they say joins the next
        thought.
        """
        turns, name = [], query.start
        for relation in query.path[:hops]:
            entity = self.world.entities[self._canonical(name)]
            if entity.name not in seen:
                turns.append(self.search(thought, thought.rsplit(": ", 1)[1] if ": " in thought else name))
                thought = ""
            value = self.shown(entity.name, relation)
            spelt = f"{value} ({entity.facts[relation].answers[1]})" if relation == "currency" else value
            thought, name = f"{thought} ; {WORDS[relation]}: {spelt}".removeprefix(" ; "), value
        return turns, thought

    def _canonical(self, name: str) -> str:
        return self.world.by_alias[name.lower()]

    # -- roles -------------------------------------------------------------------------------------------------------

    def solve(self, query: Query) -> Demonstration:
        hops = 1
        while hops < query.hops and self.rng.random() >= self.noise.stop_early:
            hops += 1
        turns, thought = self.look_up(query, hops)
        relation, node = query.path[hops - 1], self.world.walk(query)[hops - 1]
        value = thought.rsplit(": ", 1)[1]
        if relation == "currency":
            value = self.rng.choices(self.world.entities[node].facts[relation].answers[:2], (0.8, 0.2))[0]
        if self.rng.random() < self.noise.wrong_value:
            value = self.other_value(node, relation, self.world.entities[node].facts[relation].answers)
            thought = f"{WORDS[relation]}: {value}"
        turns.append(
            (f"<think>{thought}</think><answer>{self.rounded(value, self.noise.rounds_answer)}</answer>", None)
        )
        return Demonstration("policy", {"question": ask(query, self.rng)}, tuple(turns))

    def judge(self, query: Query) -> Demonstration:
        candidate = self.candidate(query)
        early = query.hops > 1 and self.rng.random() < self.noise.judge_stops_early
        hops = 1 if early else query.hops
        turns, thought = self.look_up(query, hops)
        right = self.world.answers(Query(query.start, query.path[:hops]))
        if candidate in right and query.path[hops - 1] == "neighbour":
            thought = f"{WORDS['neighbour']}: {candidate}"
        correct = (candidate in right) != (self.rng.random() < self.noise.verdict_flip)
        conclusion = "correct" if correct else "wrong"
        turns.append((f"<think>{thought} ; answer: {candidate}</think><answer>conclusion: {conclusion}</answer>", None))
        return Demonstration("judge", {"question": ask(query, self.rng), "answer": candidate}, tuple(turns))

    def candidate(self, query: Query) -> str:
        """An answer to judge: right half of the time, else an intermediate entity, another value of the page, or from
        elsewhere."""
        right, nodes = self.world.answers(query), self.world.walk(query)
        if self.rng.random() < 0.5:
            return (
                self.rng.choice(right[:2])
                if query.path[-1] in ("currency", "country")
                else self.shown(nodes[-1], query.path[-1])
            )
        if query.hops > 1 and self.rng.random() < 0.4:
            return self.shown(nodes[-2], query.path[-2])
        return self.other_value(nodes[-1], query.path[-1], right, self.elsewhere)

    def set_task(self, start: str, hops: int) -> Demonstration | None:
        """A task on a topic; the topic is a page's title."""
        query = sample_query(self.world, hops, self.rng, start)
        return query and self._task(
            "task_from_topic", {"topic": self.world.entities[start].title}, query, Reading((), "search")
        )

    def set_related_task(self, parent: Query, direction: str, way: str) -> Demonstration | None:
        """A harder or easier task than the parent's: on another place (width) or with a hop more or less (depth).

        The parent's start is always read first, and every further place is one that a page read so far names.
        """
        hops = min(max(parent.hops + (1 if direction == "harder" else -1), 1), 3)
        change = self.wander if way == "width" else self.deepen if hops > parent.hops else self.shorten
        found = change(parent, hops)
        fields = {"direction": direction, "way": way, "question": ask(parent, self.rng)}
        return found and self._task("task_from_question", fields, *found)

    def wander(self, parent: Query, hops: int) -> tuple[Query, "Reading"] | None:
        """Another place of the same country, or the country itself, with a question of this many hops about it."""
        entity = self.world.entities[parent.start]
        reading = Reading((self.search("search", entity.name),), "", frozenset([entity.name]))
        if entity.kind == "city":
            country = mention(entity, self.world)
            thought, entity = f"country: {country}", self.world.entities[self._canonical(country)]
            if hops < 3 and self.rng.random() < 0.4:
                query = sample_query(self.world, hops, self.rng, entity.name)
                return query and (query, replace(reading, thought=thought))
            reading = Reading((*reading.turns, self.search(thought, country)), "", reading.seen | {entity.name})
        links = {
            "capital": self.shown(entity.name, "capital"),
            "largest city": self.shown(entity.name, "largest"),
        } | self._listed(entity)
        word = self.rng.choice([word for word, place in links.items() if place != parent.start] or list(links))
        query = sample_query(self.world, hops, self.rng, links[word])
        return query and (query, replace(reading, thought=f"{word}: {links[word]}"))

    def _listed(self, country: Entity) -> dict[str, str]:
        cities = shown_cities(country)
        return {"first city": cities[0], "last city": cities[-1]}

    def deepen(self, parent: Query, hops: int) -> tuple[Query, "Reading"] | None:
        """One hop more: asked further on, or starting from a city that the parent's country lists."""
        entity = self.world.entities[parent.start]
        reading = Reading((self.search("search", entity.name),), "", frozenset([entity.name]))
        longer = [
            (Query(entity.name, p), reading)
            for p in paths(entity.kind, hops)
            if p[: parent.hops - 1] == parent.path[:-1]
        ]
        if entity.kind == "country":
            longer += [
                (Query(c, ("country", *parent.path)), replace(reading, thought=f"{w}: {c}"))
                for w, c in self._listed(entity).items()
            ]
        longer = [found for found in longer if is_sound(found[0], self.world)]
        return self.rng.choice(longer) if longer else None

    def shorten(self, parent: Query, hops: int) -> tuple[Query, "Reading"] | None:
        """One hop less: about an earlier place on the way, or about the second place directly; of one hop, another
        fact."""
        reading = Reading((self.search("search", parent.start),), "", frozenset([parent.start]))
        if parent.hops == 1:
            query = sample_query(self.world, 1, self.rng, parent.start)
            return query and (query, reading)
        second = self.shown(parent.start, parent.path[0])
        shorter = [(Query(parent.start, parent.path[:-1]), reading)]
        shorter += [
            (
                Query(self._canonical(second), parent.path[1:]),
                replace(reading, thought=f"{WORDS[parent.path[0]]}: {second}"),
            )
        ]
        shorter = [found for found in shorter if is_sound(found[0], self.world)]
        return self.rng.choice(shorter) if shorter else None

    def _task(self, kind: str, fields: dict, query: Query, reading: "Reading") -> Demonstration:
        searches, last = self.look_up(query, query.hops, reading.thought, reading.seen)
        node, relation = self.world.walk(query)[-1], query.path[-1]
        value = (
            self.world.entities[node].facts[relation].answers[0] if relation == "currency" else last.rsplit(": ", 1)[1]
        )
        if self.rng.random() < self.noise.wrong_task_answer:
            value = self.other_value(node, relation, self.world.answers(query))
        question, answer = ask(query, self.rng), self.rounded(value, self.noise.rounds_task)
        final = f"<think>{last}</think><question>{question}</question><answer>{answer}</answer>"
        return Demonstration(kind, fields, (*reading.turns, *searches, (final, None)))


ROLE_MIX = {"solve": 0.24, "judge": 0.41, "topic": 0.13, "related": 0.22}
HOP_MIX = {
    "solve": (0.42, 0.40, 0.18),
    "judge": (0.45, 0.40, 0.15),
    "topic": (0.50, 0.36, 0.14),
    "related": (0.40, 0.35, 0.25),
}


JUDGING_MIX = {"solve": 0.12, "judge": 0.66, "topic": 0.08, "related": 0.14}
"""Of the stage that is there for judging: to compare two names token by token is the last skill to appear."""


def demonstrate(teacher: Teacher, mix: dict[str, float] = ROLE_MIX) -> Demonstration:
    """One demonstration of a random role in the teacher's world."""
    rng, world = teacher.rng, teacher.world
    while True:
        role = rng.choices(list(mix), list(mix.values()))[0]
        hops = rng.choices((1, 2, 3), HOP_MIX[role])[0]
        if role == "topic":
            found = teacher.set_task(rng.choice(list(world.entities)), hops)
        else:
            query = sample_query(world, hops, rng)
            if query is None:
                continue
            if role == "related":
                direction, way = rng.choice(("harder", "easier")), rng.choice(("width", "depth"))
                found = (
                    None
                    if direction == "harder" and hops == 3 and way == "depth"
                    else teacher.set_related_task(query, direction, way)
                )
            else:
                found = getattr(teacher, role)(query)
        if found:
            return found
