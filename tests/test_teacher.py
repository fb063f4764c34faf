"""Alternate worlds and the teacher: what an errorless one says is true, nothing is searched that was not read before,
nothing held out is ever shown, and each dial does what it says."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from asl_min import protocol
from asl_min.search.tool import respond
from asl_min.world.oracle import Oracle
from asl_min.world.relations import RELATIONS, path_kind
from asl_min.world.tiny.alternate import alternate_world
from asl_min.world.tiny.teacher import NO_NOISE, Demonstration, Teacher, demonstrate
from asl_min.world.world import Query, World

PROMPTS = {"policy", "judge", "task_from_topic", "task_by_hops", "task_from_question", "task_from_result"}
ROLES = ("policy", "judge", "task")


@pytest.fixture(scope="module")
def invented() -> World:
    return alternate_world(5)


@pytest.fixture(scope="module")
def oracle(invented) -> Oracle:
    return Oracle(invented)


@pytest.fixture(scope="module")
def found(invented) -> list[Demonstration]:
    """600 demonstrations without errors."""
    teacher = Teacher(invented, random.Random(0))
    return [demonstrate(teacher) for _ in range(600)]


def final(demonstration: Demonstration) -> str:
    return demonstration.turns[-1][0]


def asked(demonstration: Demonstration) -> str:
    """The question that it answers, judges or sets."""
    own = protocol.question(final(demonstration))
    return own if demonstration.prompt.startswith("task") else demonstration.fields["question"]


def is_right(oracle: Oracle, demonstration: Demonstration) -> bool:
    if demonstration.prompt == "judge":
        truth = oracle.right(asked(demonstration), demonstration.fields["answer"])
        return protocol.verdict(final(demonstration)) is truth
    return oracle.right(asked(demonstration), protocol.answer(final(demonstration)))


# --- alternate worlds


def test_alternate_world_depends_on_its_seed_alone(invented):
    assert alternate_world(5) == invented
    assert alternate_world(6) != invented


@pytest.mark.parametrize("seed", range(3))
def test_alternate_world_shares_no_country_name_with_the_target(seed, world):
    names = {e.name.lower() for e in alternate_world(seed).of_kind("country")}
    assert len(names) == 28 and not names & {e.name.lower() for e in world.of_kind("country")}


def test_alternate_world_names_are_all_different(invented):
    names = [n.lower() for e in invented.entities.values() for n in (e.name, *e.aliases)]
    assert len(names) == len(set(names))


def test_alternate_world_has_every_relation(invented):
    assert {relation for e in invented.entities.values() for relation in e.facts} == set(RELATIONS)


# --- the teacher without errors


def test_teacher_without_noise_plays_every_role_and_is_always_right(oracle, found):
    assert {d.prompt for d in found} == PROMPTS
    assert all(is_right(oracle, d) for d in found)


def test_nothing_held_out_is_demonstrated(invented, oracle, found, monkeypatch):
    """An oracle that knows the seen wordings alone reads every question."""
    seen = {
        name: replace(relation, asks=relation.questions("seen"), nouns=relation.phrases("seen"))
        for name, relation in RELATIONS.items()
    }
    monkeypatch.setattr("asl_min.world.oracle.RELATIONS", seen)
    reader = Oracle(invented)
    for question in {q for d in found for q in (asked(d), d.fields.get("question")) if q}:
        assert path_kind(oracle.parse(question).path) == "seen", question
        assert reader.parse(question) == oracle.parse(question), question


def test_judgments_are_of_both_kinds(found):
    said = Counter(protocol.verdict(final(d)) for d in found if d.prompt == "judge")
    assert set(said) == {True, False} and min(said.values()) > 60


def test_some_right_candidates_are_in_other_words(oracle, found):
    judged = [d for d in found if d.prompt == "judge" and protocol.verdict(final(d))]
    worded = [d for d in judged if d.fields["answer"] not in final(d).split(" ; answer: ")[0]]
    assert 0.08 < len(worded) / len(judged) < 0.3


def test_searches_are_real_calls_with_real_responses(invented):
    teacher = Teacher(invented, random.Random(4))
    for demonstration in (demonstrate(teacher) for _ in range(50)):
        for text, response in demonstration.turns[:-1]:
            assert response == respond(teacher.tool, list(protocol.tool_call(text).queries))


def test_every_search_is_for_something_read_before(found):
    for demonstration in found:
        read = " ".join(demonstration.fields.values())
        for text, response in demonstration.turns[:-1]:
            assert protocol.tool_call(text).queries[0] in read
            read += response


def test_what_is_thought_of_a_list_names_all_of_it(oracle, found):
    counted = [d for d in found if "number of neighbours: " in final(d).split("</think>")[0]]
    assert counted
    for demonstration in counted:
        names, count = final(demonstration).split("neighbours: ")[1:3]
        assert len(names.split(" ; ")[0].split(", ")) == int(count.split("<")[0].split(" ;")[0])


def test_a_harder_variant_has_more_hops_and_an_easier_one_fewer(oracle, found):
    related = [d for d in found if d.prompt in ("task_from_question", "task_from_result")]
    for demonstration in related:
        before, change = oracle.hops(demonstration.fields["question"]), demonstration.fields["direction"]
        assert oracle.hops(asked(demonstration)) == min(max(before + (1 if change == "harder" else -1), 1), 4)


@pytest.mark.parametrize(("direction", "hops"), [("harder", 2), ("easier", 1)])
def test_related_task_by_depth_has_a_hop_more_or_less(invented, oracle, direction, hops):
    teacher = Teacher(invented, random.Random(2))
    path = ("capital",) if direction == "harder" else ("capital", "time_zone")
    parents = [Query(e.name, path) for e in invented.of_kind("country")]
    made = [d for d in (teacher.set_related_task(p, direction, "depth") for p in parents) if d]
    assert made and {oracle.hops(asked(d)) for d in made} == {hops}


def test_a_task_asked_for_by_hops_has_them(oracle, found):
    told = [d for d in found if d.prompt == "task_by_hops"]
    assert told and all(oracle.hops(asked(d)) == int(d.fields["hops"]) for d in told)


def test_results_are_told_as_they_are(oracle, found):
    told = [d for d in found if d.prompt == "task_from_result"]
    assert all(oracle.right(d.fields["question"], d.fields["answer"]) for d in told)
    assert {oracle.right(d.fields["question"], d.fields["attempted"]) for d in told} == {True, False}


# --- the dials, each alone


def wrong_shares(invented: World, oracle: Oracle, **dials: float) -> dict[str, float]:
    """How much of what each role says is wrong."""
    teacher = Teacher(invented, random.Random(3), replace(NO_NOISE, **dials))
    made = [demonstrate(teacher) for _ in range(600)]
    wrong = {role: [not is_right(oracle, d) for d in made if d.prompt.startswith(role)] for role in ROLES}
    return {role: sum(found) / len(found) for role, found in wrong.items()}


@pytest.mark.parametrize(
    ("dial", "prompt", "low", "high"),
    [
        ("wrong_value", "policy", 0.4, 0.6),
        ("stop_early", "policy", 0.15, 0.4),
        ("verdict_flip", "judge", 0.4, 0.6),
        ("judge_stops_early", "judge", 0.05, 0.3),
        ("wrong_task_answer", "task", 0.4, 0.6),
        ("rounds_answer", "policy", 0.02, 0.2),
        ("rounds_task", "task", 0.02, 0.2),
    ],
)
def test_a_dial_makes_its_role_err_and_no_other(invented, oracle, dial, prompt, low, high):
    wrong = wrong_shares(invented, oracle, **{dial: 0.5})
    assert low < wrong.pop(prompt) < high
    assert set(wrong.values()) == {0.0}
