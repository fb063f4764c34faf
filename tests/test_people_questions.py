"""Questions by people: found by their text, split by their ids, kept and dropped as the shipped decisions say. The
questions here are made up."""

import hashlib
import json
from pathlib import Path

import pytest

from asl_min.config import Config
from asl_min.corpus import in_split, load_questions, write_jsonl
from asl_min.real import people
from asl_min.run.errors import InputError
from asl_min.search import hub

REASONS = {
    "by chance",
    "needs another page",
    "golden answer wrong",
    "ambiguous",
    "outdated",
    "garbled",
    "asked twice",
    "close to an evaluated question",
}


def question(name: str, number: int) -> dict:
    asked = f"who is number {number} of {name}?"
    return {"id": f"{name}_{number}", "question": asked, "golden_answers": [f"{name} {number}", "other"]}


def decision(name: str, number: int) -> dict:
    """Every third question is dropped."""
    row = {"id": f"{name}_{number}", "sha256": people.text_hash(question(name, number)["question"])}
    reading = {"keep": True, "pages": [f"Page {number}"]} if number % 3 else {"keep": False, "reason": "by chance"}
    return row | reading


@pytest.fixture
def sets(tmp_path, monkeypatch) -> Path:
    """A folder with made-up sets of 30, 30 and 120 questions, and decisions on them in the place of those shipped."""
    monkeypatch.setattr(people, "DECISIONS", tmp_path / "decisions")
    for name, size in {"nq_dev": 30, "webq_test": 30, "webq_train": 120}.items():
        write_jsonl(tmp_path / "decisions" / f"{name}.jsonl", [decision(name, i) for i in range(size)])
        write_jsonl(tmp_path / "sets" / f"{name}.jsonl", [question(name, i) for i in range(size)])
    return tmp_path / "sets"


@pytest.fixture
def written(sets, tmp_path, script) -> dict[str, list[dict]]:
    """What the script writes, by file name."""
    assert script("asl_min.real.people", "--folder", sets, "--out", tmp_path / "out") == 0
    return {path.name: load_questions(path) for path in (tmp_path / "out").iterdir()}


def test_every_kept_question_is_in_one_half_and_no_dropped_one(written):
    assert set(written) == {"test.jsonl", "validation.jsonl", "labels.jsonl"}
    test, validation = ({row["id"] for row in written[f"{half}.jsonl"]} for half in ("test", "validation"))
    wanted = {f"{name}_{i}" for name in ("nq_dev", "webq_test") for i in range(30) if i % 3}
    assert test | validation == wanted and not test & validation and test and validation


def test_rows_have_the_golden_answers_of_the_file_and_the_pages_of_the_decision(written):
    (row,) = [row for row in written["test.jsonl"] + written["validation.jsonl"] if row["id"] == "nq_dev_7"]
    assert row == question("nq_dev", 7) | {"metadata": {"dataset": "nq_dev", "pages": ["Page 7"]}}


def test_labels_are_the_first_64_kept_ones_in_hash_order(written):
    wanted = [f"webq_train_{i}" for i in range(120) if i % 3]
    wanted.sort(key=lambda id: hashlib.sha256(id.encode()).hexdigest())
    assert [row["id"] for row in written["labels.jsonl"]] == wanted[:64]


def test_first_questions_of_a_half_come_from_both_sets(written):
    for half in ("test", "validation"):
        first = in_split(written[f"{half}.jsonl"], 12, per_hop=True)
        assert {row["metadata"]["dataset"] for row in first} == {"nq_dev", "webq_test"}


def test_config_takes_the_files(written, tmp_path):
    out = tmp_path / "out"
    Config(questions=str(out / "test.jsonl"), labelled_questions=str(out / "labels.jsonl"))


@pytest.mark.parametrize(("id", "half"), [("a", "test"), ("b", "test"), ("c", "validation"), ("nq_dev_39", "test")])
def test_half_follows_from_the_last_bit_of_the_hash_of_the_id(id, half):
    last = hashlib.sha256(id.encode()).digest()[-1]
    assert people.split(id) == half == ("test" if last & 1 else "validation")


def test_hash_is_of_the_text_without_case_punctuation_and_articles():
    assert people.text_hash("Who is the Author, of a book?") == people.text_hash("who is author of book")
    assert people.text_hash("who is author of book") == hashlib.sha256(b"who is author of book").hexdigest()
    assert people.text_hash("who is author of book") != people.text_hash("who is author of books")


def test_questions_are_found_whatever_their_ids_and_case_and_the_sets_other_questions(sets, tmp_path):
    rows = [{"question": f"what is {i}", "golden_answers": ["nothing"]} for i in range(9)]
    rows += [
        question("nq_dev", i) | {"id": f"test_{i}", "question": f"Who is  the number {i} of NQ_DEV"} for i in range(30)
    ]
    write_jsonl(tmp_path / "other.jsonl", rows)
    here, there = people.kept("nq_dev", sets / "nq_dev.jsonl"), people.kept("nq_dev", tmp_path / "other.jsonl")
    assert [row["id"] for row in there] == [row["id"] for row in here] == [f"nq_dev_{i}" for i in range(30) if i % 3]
    assert [row["golden_answers"] for row in there] == [row["golden_answers"] for row in here]


def test_of_equal_questions_the_first_counts(sets):
    again = question("nq_dev", 1) | {"golden_answers": ["another"]}
    write_jsonl(sets / "nq_dev.jsonl", [*load_questions(sets / "nq_dev.jsonl"), again])
    assert people.kept("nq_dev", sets / "nq_dev.jsonl")[0]["golden_answers"] == ["nq_dev 1", "other"]


def test_file_of_another_set_is_refused(sets):
    with pytest.raises(
        InputError, match=r"webq_test\.jsonl: lacks 20 of the 20 kept questions of nq_dev, first 'nq_de"
    ):
        people.kept("nq_dev", sets / "webq_test.jsonl")


def test_other_text_under_a_kept_id_is_refused(sets):
    rows = load_questions(sets / "nq_dev.jsonl")
    rows[4]["question"] = "who is that?"
    write_jsonl(sets / "nq_dev.jsonl", rows)
    with pytest.raises(InputError, match=r"lacks 1 of the 20 .* 'nq_dev_4', which has another text there: 'who is tha"):
        people.kept("nq_dev", sets / "nq_dev.jsonl")


def test_missing_set_is_one_line_and_nothing_is_written(sets, tmp_path, script, capsys):
    (sets / "webq_train.jsonl").unlink()
    assert script("asl_min.real.people", "--folder", sets, "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err == f"error: {sets / 'webq_train.jsonl'}: no such file\n"
    assert not (tmp_path / "out").exists()


def test_dry_run_writes_nothing(sets, tmp_path, script, capsys):
    assert script("asl_min.real.people", "--out", tmp_path / "out", "--dry-run") == 0
    assert "nq/test.jsonl, web_questions/test.jsonl" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_hub_gives_the_same_files(written, sets, tmp_path, monkeypatch, script):
    def download(repo: str, file: str, repo_type: str) -> str:
        name = {"nq/test.jsonl": "nq_dev", "web_questions/test.jsonl": "webq_test"}.get(file, "webq_train")
        return str(sets / f"{name}.jsonl")

    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert script("asl_min.real.people", "--out", tmp_path / "hub") == 0
    assert {path.name: load_questions(path) for path in (tmp_path / "hub").iterdir()} == written


# --- what ships


@pytest.mark.parametrize(
    ("name", "read", "keep"), [("nq_dev", 239, 94), ("webq_test", 241, 101), ("webq_train", 786, 300)]
)
def test_shipped_decisions_are_whole(name, read, keep):
    rows = people.decisions(name)
    assert len(rows) == len({row.id for row in rows}) == len({row.sha256 for row in rows}) == read
    assert sum(row.keep for row in rows) == keep
    for row in rows:
        assert row.id.startswith(f"{name}_") and len(bytes.fromhex(row.sha256)) == 32
        assert row.pages and not row.reason if row.keep else row.reason in REASONS and not row.pages


def test_no_question_ships(sets):
    for name in people.SETS:
        for line in (people.DECISIONS / f"{name}.jsonl").read_text().splitlines():
            assert set(json.loads(line)) <= {"id", "sha256", "keep", "pages", "reason"}


def test_no_text_is_decided_on_twice():
    hashes = [row.sha256 for name in people.SETS for row in people.decisions(name)]
    assert len(hashes) == len(set(hashes))
