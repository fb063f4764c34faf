"""Our own questions about the leads of Wikipedia's vital articles: their form, their split, and the check of them
against the pages. Needs no page of Wikipedia."""

import hashlib
import json

import pytest
from helpers import ROOT

from asl_min.corpus import Passage, load_questions
from asl_min.rewards import normalize
from asl_min.tools.check_questions import faults, pages_of, stands_in

FOLDER = ROOT / "asl_min" / "real" / "questions"
HOPS = {"one_hop": 1, "two_hop": 2}
AT_LEAST = {"one_hop": 100, "two_hop": 200}
PAGES = {
    "Kinkaku-ji": "Kinkaku-ji is a Zen temple in Kyoto.",
    "Kyoto": "Kyoto is the ninth-most populous city of Japan, on the island of Honshu.",
}


@pytest.fixture(scope="module", params=HOPS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def rows(name) -> list[dict]:
    return load_questions(FOLDER / f"{name}.jsonl")


def question(text: str, *answers: str) -> dict:
    metadata = {"hops": 2, "pages": ["Kinkaku-ji", "Kyoto"], "bridge": "Kyoto"}
    return {"id": "x", "question": text, "golden_answers": list(answers), "metadata": metadata}


def test_there_are_enough(name, rows):
    assert len(rows) >= AT_LEAST[name]


def test_form(name, rows):
    for row in rows:
        found = row["metadata"]
        assert row["id"].startswith(f"{name}_") and found["hops"] == HOPS[name] == len(found["pages"]), row
        assert found.get("bridge") == (found["pages"][1] if name == "two_hop" else None), row
        assert row["question"].strip() == row["question"] and row["question"].endswith("?"), row


def test_answers_are_short_and_differ(rows):
    for row in rows:
        answers = [normalize(answer) for answer in row["golden_answers"]]
        assert all(answers) and len(set(answers)) == len(answers), row
        assert len(row["golden_answers"][0].split()) <= 5, row


def test_ids_and_questions_are_unique():
    rows = [row for name in HOPS for row in load_questions(FOLDER / f"{name}.jsonl")]
    assert len({row["id"] for row in rows}) == len(rows) == len({normalize(row["question"]) for row in rows})


def test_neither_answer_nor_bridge_stands_in_the_question(rows):
    for row in rows:
        hidden = row["golden_answers"] + [row["metadata"].get("bridge", "no bridge")]
        assert not [text for text in hidden if stands_in(text, row["question"])], row


def test_split_is_by_hash_of_the_id(rows):
    for row in rows:
        odd = int(hashlib.sha256(row["id"].encode()).hexdigest(), 16) % 2
        assert row["metadata"]["split"] == ("validation", "test")[odd], row


def test_halves_are_about_equal(rows):
    test = sum(row["metadata"]["split"] == "test" for row in rows)
    assert 0.4 < test / len(rows) < 0.6


def test_readme_counts_what_is_there(name, rows):
    test = sum(row["metadata"]["split"] == "test" for row in rows)
    line = f"| `{name}.jsonl` | {len(rows)} | {len(rows) - test} | {test} |"
    assert line in (FOLDER / "README.md").read_text()


def test_sound_question_has_no_fault():
    assert faults(question("On which island is the Golden Pavilion?", "Honshu"), PAGES) == []


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (question("On which island is it?", "Kyushu"), "no golden answer in the last page"),
        (question("On which island is Kyoto?", "Honshu"), "the question names the bridge 'Kyoto'"),
        (question("Is it on Honshu?", "Honshu"), "the question contains the answer 'Honshu'"),
        (question("What is it?", "ninth", "temple"), "the first page contains the answer 'temple'"),
    ],
)
def test_fault_is_named(row, said):
    assert faults(row, PAGES) == [said]


def test_missing_page_and_missing_bridge_are_named():
    row = question("On which island is it?", "Honshu")
    assert faults(row, {"Kyoto": PAGES["Kyoto"]}) == ["no page 'Kinkaku-ji'"]
    assert faults(row, PAGES | {"Kinkaku-ji": "A temple."}) == ["the first page does not name 'Kyoto'"]


@pytest.mark.parametrize(
    ("name", "text", "stands"),
    [
        ("Laser", "fibres with lasers", True),
        ("Paris", "a Paris-based group", True),
        ("2,000", "about 2,000 miles", True),
        ("Lu", "Lucerne", False),
    ],
)
def test_whole_words_stand_in_a_text(name, text, stands):
    assert stands_in(name, text) is stands


def test_passages_of_a_title_are_one_page():
    passages = [Passage("0", "Kyoto", "A city."), Passage("1", "Nara", "Deer."), Passage("2", "Kyoto", "On Honshu.")]
    assert pages_of(passages) == {"Kyoto": "A city. On Honshu.", "Nara": "Deer."}


def test_script_lists_the_faults(script, tmp_path, capsys):
    corpus, questions = tmp_path / "corpus.jsonl", tmp_path / "questions.jsonl"
    corpus.write_text("".join(json.dumps({"id": t, "contents": f'"{t}"\n{x}'}) + "\n" for t, x in PAGES.items()))
    questions.write_text(json.dumps(question("On which island is it?", "Honshu")) + "\n")
    assert script("asl_min.tools.check_questions", corpus, questions) == 0
    assert capsys.readouterr().out == "1 of 1 questions fit their pages\n"
    questions.write_text(json.dumps(question("On which island is it?", "Kyushu")) + "\n")
    assert script("asl_min.tools.check_questions", corpus, questions) == 2
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"{questions}: x: no golden answer in the last page",
        "0 of 1 questions fit their pages",
    ]
    assert said.err == f"error: {corpus}: 1 of 1 questions do not fit these pages\n"
    more = tmp_path / "more.jsonl"
    more.write_text(json.dumps(question("On which island is it?", "Honshu")) + "\n")  # of the same id
    assert script("asl_min.tools.check_questions", corpus, questions, more) == 2
    assert "1 of 2 questions fit their pages\n" in capsys.readouterr().out
    assert faults({"question": "q", "golden_answers": ["x"], "metadata": {}}, PAGES) == [
        "names no page (metadata.pages)"
    ]
