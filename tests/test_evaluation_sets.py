"""Questions and gold judgments of the real run's evaluation, and what is measured of its answers."""

import json
import random

import numpy as np
import pytest

from asl_min.corpus import in_split, load_judgments, load_questions, write_jsonl
from asl_min.metrics.accuracy import f1, found_pages
from asl_min.real.evaluation_sets import judgments, own_questions, wrong_answers
from asl_min.real.spans import kind_of, overlap

LEADS = {
    "Oster": "Oster is a town on the Ilde. The Varn Bridge and the tower of Castor Vail stand there since 1640.",
    "Port Ames": "Port Ames is the capital of Quenland. Its harbour is deep.",
}


def row(id: str, question: str, *golden: str, page: str = "Oster") -> dict:
    return {"id": id, "question": question, "golden_answers": list(golden), "metadata": {"pages": [[page]]}}


QUESTIONS = [
    row("a", "Whose tower stands in Oster?", "Castor Vail", "Vail", "the smith"),
    row("b", "Since when does it stand there?", "1640"),
    row("c", "What is deep in Port Ames?", "harbour", page="Port Ames"),
    *(row(f"d{i}", f"Who is the {i}th?", name) for i, name in enumerate(("Edda Brune", "Ada Lind", "Karl Lind"))),
]


def test_each_question_has_a_right_candidate_and_mostly_a_wrong_one_of_the_same_kind():
    found = judgments(QUESTIONS, LEADS)
    assert found == judgments(QUESTIONS, LEADS)
    for question in QUESTIONS:
        own = [r for r in found if r["question"] == question["question"]]
        assert [r["label"] for r in own] in ([True, False], [True])
        golden = question["golden_answers"]
        for candidate in own[1:]:
            assert candidate["metadata"]["worded"] or kind_of(candidate["answer"]) == kind_of(golden[0])
            assert not any(overlap(candidate["answer"], g) for g in golden)
    kinds = {r["metadata"]["kind"] for r in found}
    assert kinds <= {"golden", "other_golden", "near_miss", "same_page", "other_question"}
    assert len({r["question"] for r in found if not r["label"]}) >= 5


def test_wording_tells_nothing_of_the_label():
    found = judgments([row(f"x{i}", f"Who is number {i}?", f"Edda Number{i}") for i in range(300)], LEADS)
    shares = [np.mean([r["metadata"]["worded"] for r in found if r["label"] == label]) for label in (True, False)]
    assert all(0.25 < share < 0.5 for share in shares)
    assert any(r["answer"].endswith(", of course") for r in found if not r["label"])


def test_wrong_answers_by_where_they_come_from():
    found = wrong_answers(QUESTIONS[0], QUESTIONS, LEADS, random.Random(0))
    assert found.keys() == {"same_page", "other_question"}
    assert found["same_page"] in ("Ilde", "Varn Bridge")  # Oster stands in the question
    found = wrong_answers(QUESTIONS[1], QUESTIONS, LEADS, random.Random(0))
    assert found.keys() == {"near_miss"} and found["near_miss"] != "1640" and len(found["near_miss"]) == 4
    assert wrong_answers(QUESTIONS[2], QUESTIONS, LEADS, random.Random(0)) == {}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("7 November 1867", "date"), ("1911", "year"), ("4.5 million", "number"), ("Oster", "name"), ("lamps", "term")],
)
def test_kind_of_an_answer(answer, kind):
    assert kind_of(answer) == kind


def test_halves_of_our_questions_share_none_and_name_their_set():
    halves = {half: own_questions(half) for half in ("test", "validation")}
    ids = [{r["id"] for r in rows} for rows in halves.values()]
    assert not ids[0] & ids[1] and sum(map(len, ids)) == 336
    assert {r["metadata"]["dataset"] for r in halves["test"]} == {"one_hop", "two_hop"}
    assert {len(r["metadata"]["pages"]) for r in halves["test"]} == {1, 2}


def test_script_writes_sets_that_evaluation_reads(script, tmp_path, capsys):
    pages = {t for h in ("test", "validation") for r in own_questions(h) for p in r["metadata"]["pages"] for t in p}
    corpus, people = tmp_path / "corpus.jsonl", tmp_path / "people"
    texts = dict.fromkeys(sorted(pages), "The Varn Bridge was opened in 1912.") | LEADS
    write_jsonl(corpus, [{"id": str(i), "contents": f'"{t}"\n{x}'} for i, (t, x) in enumerate(texts.items())])
    asked = QUESTIONS[0] | {"metadata": {"dataset": "nq_dev", "pages": ["Oster", "Port Ames"]}}
    for half in ("test", "validation"):
        write_jsonl(people / f"{half}.jsonl", [asked | {"id": half}])
    write_jsonl(people / "labels.jsonl", [asked | {"id": "label"}])
    words = ("--corpus", corpus, "--people", people, "--out", tmp_path / "out")
    assert script("asl_min.real.evaluation_sets", *words) == 0
    rows = load_questions(tmp_path / "out" / "test.jsonl")
    assert len(in_split(rows, 400, per_hop=True)) == len(rows) == 1 + len(own_questions("test"))
    (theirs,) = [r for r in rows if r["id"] == "test"]
    assert theirs["metadata"] == {"dataset": "nq_dev", "pages": [["Oster", "Port Ames"]]}
    assert load_judgments(tmp_path / "out" / "judgments_validation.jsonl")
    assert [r["id"] for r in load_questions(tmp_path / "out" / "labels.jsonl")] == ["label"]
    corpus.write_text(json.dumps({"id": "0", "contents": '"Oster"\nA town.'}) + "\n")
    assert script("asl_min.real.evaluation_sets", *words) == 2
    assert "lacks" in capsys.readouterr().err


def test_f1_is_that_of_the_words_in_common():
    assert f1("the Varn Bridge of Oster", ["Varn Bridge"]) == pytest.approx(2 * 2 / (4 + 2))
    assert f1("Varn", ["Bridge", "the Varn Bridge"]) == pytest.approx(2 / 3)
    assert f1(None, ["x"]) == f1("y", ["x"]) == 0 and f1("A varn!", ["Varn"]) == 1


def test_found_pages_needs_one_of_each_list_under_its_title():
    read = ['"Oster"\nOster is near "Port Ames".', '"Loran (gas)"\nA gas.']
    assert found_pages(read, ["Oster"]) and found_pages(read, [["Port Ames", "Oster"], ["Loran (gas)"]])
    assert not found_pages(read, ["Oster", "Port Ames"])
