"""The noisy teacher that a tiny base imitates: it plays the three roles with the real search tool, and errs on purpose.

`Noise` holds the dials. None is aimed at one system: a population of bases draws them at random (`population.py`).
"""

from contextlib import suppress
from dataclasses import dataclass, replace

from asl_min.world.questions import ask, is_sound, sample_query
from asl_min.world.relations import MAX_HOPS, RELATIONS, path_kind, paths
from asl_min.world.tiny.reader import NotFound, Reader, Reading
from asl_min.world.values import near_miss, without_decimals
from asl_min.world.world import Entity, Query


@dataclass(frozen=True)
class Noise:
    """Probability of each error of the teacher."""

    wrong_value: float
    """The policy answers another value from the pages it read."""
    stop_early: float
    """The policy answers the intermediate entity, drawn at each hop but the last."""
    verdict_flip: float
    """The judge says the opposite of what it thinks."""
    judge_stops_early: float
    """The judge holds a multi-hop question's first intermediate entity for its answer."""
    wrong_task_answer: float
    """The task's own answer is another value."""
    rounds_answer: float
    """The policy leaves out a number's decimals."""
    rounds_task: float
    """So does the task's own answer."""


NO_NOISE = Noise(*[0.0] * 7)


@dataclass(frozen=True)
class Demonstration:
    """A prompt (its name and fields) and the assistant's turns, each with the tool response after it (None after the
    last)."""

    prompt: str
    fields: dict[str, str]
    turns: tuple[tuple[str, str | None], ...]


@dataclass
class Teacher(Reader):
    """Plays every role in one world with one random stream."""

    noise: Noise = NO_NOISE
    elsewhere: float = 0.3
    """Share of the wrong candidates for the judge that are the same fact of another entity, but for the intermediate
    entities: their kind does not tell them, they must be compared with what was found."""

    def rounded(self, value: str, dial: float) -> str:
        """A number without its decimals, as often as the dial says; any other value as it is."""
        shorter = without_decimals(value)
        return shorter if dial and shorter != value and self.rng.random() < dial else value

    # -- roles -------------------------------------------------------------------------------------------------------

    def solve(self, query: Query) -> Demonstration:
        hops = 1
        while hops < query.hops and self.rng.random() >= self.noise.stop_early:
            hops += 1
        turns, thought = self.look_up(query, hops)
        relation, node = query.path[hops - 1], self.world.walk(query)[hops - 1]
        value = thought.rsplit(": ", 1)[1]
        if self.rng.random() < self.noise.wrong_value:
            value = self.other_value(node, relation, self.world.entities[node].facts[relation].answers)
            thought = f"{RELATIONS[relation].word}: {value}"
        answer = self.rounded(value, self.noise.rounds_answer)
        turns.append((f"<think>{thought}</think><answer>{answer}</answer>", None))
        return Demonstration("policy", {"question": ask(query, self.rng)}, tuple(turns))

    def judge(self, query: Query) -> Demonstration:
        candidate = self.candidate(query)
        early = query.hops > 1 and self.rng.random() < self.noise.judge_stops_early
        hops = 1 if early else query.hops
        turns, thought = self.look_up(query, hops)
        right = self.world.answers(Query(query.start, query.path[:hops]))
        relation = RELATIONS[query.path[hops - 1]]
        if candidate in right and relation.many:
            thought = f"{relation.word}: {candidate}"
        correct = (candidate in right) != (self.rng.random() < self.noise.verdict_flip)
        turns.append((conclude(thought, candidate, correct), None))
        return Demonstration("judge", {"question": ask(query, self.rng), "answer": candidate}, tuple(turns))

    def candidate(self, query: Query) -> str:
        """An answer to judge: right half of the time (two times in five in other words, where there are any), else an
        intermediate entity, a near miss, another value of the page, or the same fact of another entity."""
        right, nodes = self.world.answers(query), self.world.walk(query)
        value = self.shown(nodes[-1], query.path[-1])
        if self.rng.random() < 0.5:
            return self.rng.choice(right[1:]) if right[1:] and self.rng.random() < 0.4 else value
        if query.hops > 1 and self.rng.random() < 0.4:
            return self.shown(nodes[-2], query.path[-2])
        near = near_miss(value, self.rng)
        if near and near not in right and self.rng.random() < 0.3:
            return near
        return self.other_value(nodes[-1], query.path[-1], right, self.elsewhere)

    # -- tasks -------------------------------------------------------------------------------------------------------

    def set_task(self, start: str, hops: int, told: bool = False) -> Demonstration | None:
        """A task on a topic, the title of a page; `told`: the prompt names the number of hops."""
        query, topic = sample_query(self.world, hops, self.rng, start), self.world.entities[start].title
        kind, fields = ("task_by_hops", {"hops": str(hops)}) if told else ("task_from_topic", {})
        return query and self._task(kind, fields | {"topic": topic}, query, Reading())

    def set_related_task(self, parent: Query, direction: str, way: str, told: bool = False) -> Demonstration | None:
        """A harder or easier task than the parent's: on another entity (width) or with a hop more or less (depth).
        `told`: the prompt also shows the parent's answer and how most attempts answered.

        The parent's start is always read first, and every further entity is one that a page read so far names.
        """
        hops = min(max(parent.hops + (1 if direction == "harder" else -1), 1), MAX_HOPS)
        change = self.wander if way == "width" else self.deepen if hops > parent.hops else self.shorten
        found = change(parent, hops)
        fields = {"direction": direction, "way": way, "question": ask(parent, self.rng)}
        if told:
            right, last = self.world.answers(parent), self.world.walk(parent)[-1]
            wrong = self.other_value(last, parent.path[-1], right)
            fields |= {"answer": right[0], "attempted": right[0] if self.rng.random() < 0.6 else wrong}
        return found and self._task("task_from_result" if told else "task_from_question", fields, *found)

    def read(self, name: str) -> Reading:
        return Reading((self.search("search", name),), "", frozenset([name]))

    def wander(self, parent: Query, hops: int) -> tuple[Query, Reading] | None:
        """Another entity that the start's page names, with a question of this many hops about it; or one that the page
        of that entity names."""
        name, reading = parent.start, self.read(parent.start)
        for step in (1, 2):
            links = self.links(self.world.entities[name], {parent.start, *reading.seen})
            if not links:
                return None
            word, name = self.rng.choice(list(links.items()))
            reading = replace(reading, thought=f"{word}: {name}")
            name = self._canonical(name)
            if step == 1 and self.rng.random() < 0.5:
                found = self.search(reading.thought, reading.thought.rsplit(": ", 1)[1])
                reading = Reading((*reading.turns, found), "", reading.seen | {name})
            else:
                break
        query = sample_query(self.world, hops, self.rng, name)
        return query and (query, reading)

    def links(self, entity: Entity, known: set[str]) -> dict[str, str]:
        """By what the page calls them, the entities that an entity's page names and that are not `known`."""
        found = {
            RELATIONS[relation].word: self.shown(entity.name, relation)
            for relation, fact in entity.facts.items()
            if fact.answers[0] in self.world.entities and not RELATIONS[relation].reads
        } | self._listed(entity)
        return {
            word: name for word, name in found.items() if self.world.by_alias.get(name.lower()) not in {None, *known}
        }

    def _listed(self, entity: Entity) -> dict[str, str]:
        cities = sorted(entity.lists.get("cities", ())) if "second" in entity.facts else []
        return {"a city": self.rng.choice(cities)} if cities else {}

    def deepen(self, parent: Query, hops: int) -> tuple[Query, Reading] | None:
        """One hop more: asked further on, or starting from a city that the parent's country lists."""
        entity = self.world.entities[parent.start]
        reading = self.read(entity.name)
        longer = [
            (Query(entity.name, path), reading)
            for path in paths(entity.kind, hops)
            if path[: parent.hops - 1] == parent.path[:-1]
        ]
        if entity.kind == "country":
            longer += [
                (Query(city, ("country", *parent.path)), replace(reading, thought=f"{word}: {city}"))
                for word, city in self._listed(entity).items()
            ]
        return self._one_of(longer)

    def shorten(self, parent: Query, hops: int) -> tuple[Query, Reading] | None:
        """One hop less: about an earlier place on the way, or about the second place directly; of one hop, another
        fact."""
        reading = self.read(parent.start)
        if parent.hops == 1:
            query = sample_query(self.world, 1, self.rng, parent.start)
            return query and (query, reading)
        second = self.shown(parent.start, parent.path[0])
        thought = self.thought(parent.start, parent.path[0], second)
        shorter = [
            (Query(parent.start, parent.path[:-1]), reading),
            (Query(self._canonical(second), parent.path[1:]), replace(reading, thought=thought)),
        ]
        return self._one_of(shorter)

    def _one_of(self, found: list[tuple[Query, Reading]]) -> tuple[Query, Reading] | None:
        fit = [(q, reading) for q, reading in found if path_kind(q.path) == "seen" and is_sound(q, self.world)]
        return self.rng.choice(fit) if fit else None

    def _task(self, kind: str, fields: dict, query: Query, reading: Reading) -> Demonstration:
        searches, last = self.look_up(query, query.hops, reading)
        node, relation = self.world.walk(query)[-1], query.path[-1]
        value = last.rsplit(": ", 1)[1]
        if self.rng.random() < self.noise.wrong_task_answer:
            value = self.other_value(node, relation, self.world.answers(query))
        question, answer = ask(query, self.rng), self.rounded(value, self.noise.rounds_task)
        final = f"<think>{last}</think><question>{question}</question><answer>{answer}</answer>"
        return Demonstration(kind, fields, (*reading.turns, *searches, (final, None)))


def conclude(thought: str, candidate: str, correct: bool) -> str:
    """The judge's last turn: what was found beside the answer, and the verdict."""
    conclusion = "correct" if correct else "wrong"
    return f"<think>{thought} ; answer: {candidate}</think><answer>conclusion: {conclusion}</answer>"


# --- the mix of demonstrations

ROLE_MIX = {"solve": 0.22, "judge": 0.46, "topic": 0.08, "hops": 0.04, "related": 0.13, "result": 0.07}
"""Much judging: to compare two names token by token is the last skill to appear."""
HOP_MIX = {
    "solve": (0.48, 0.30, 0.15, 0.07),
    "judge": (0.52, 0.30, 0.13, 0.05),
    "topic": (0.50, 0.30, 0.14, 0.06),
    "hops": (0.40, 0.30, 0.20, 0.10),
    "related": (0.42, 0.32, 0.18, 0.08),
    "result": (0.42, 0.32, 0.18, 0.08),
}


def demonstrate(teacher: Teacher) -> Demonstration:
    """One demonstration of a random role in the teacher's world."""
    while True:
        role = teacher.rng.choices(list(ROLE_MIX), list(ROLE_MIX.values()))[0]
        hops = teacher.rng.choices(range(1, MAX_HOPS + 1), HOP_MIX[role])[0]
        with suppress(NotFound):
            if found := play(teacher, role, hops):
                return found


def play(teacher: Teacher, role: str, hops: int) -> Demonstration | None:
    """None where what was drawn cannot be asked."""
    rng, world = teacher.rng, teacher.world
    if role in ("topic", "hops"):
        return teacher.set_task(rng.choice(list(world.entities)), hops, told=role == "hops")
    query = sample_query(world, hops, rng)
    if query is None or role in ("solve", "judge"):
        return query and getattr(teacher, role)(query)
    direction, way = rng.choice(("harder", "easier")), rng.choice(("width", "depth"))
    if direction == "harder" and way == "depth" and hops == MAX_HOPS:
        return None
    return teacher.set_related_task(query, direction, way, told=role == "result")
