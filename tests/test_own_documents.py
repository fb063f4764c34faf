"""The questions on the two collections of docs/own_documents.md: their form, and whether the collections hold the
answers. Python's chapters come with Python; Django's pages are there once the page's commands have run."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT
from test_docs import commands

from asl_min.corpus import load_corpus, load_questions
from asl_min.rewards import normalize
from asl_min.tools.check_questions import faults, pages_of, stands_in

QUESTIONS = ROOT / "reproduce" / "own_documents"
DJANGO = ROOT / "runs" / "django_docs"


@pytest.fixture(scope="module", params=["python", "django"])
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def rows(name) -> list[dict]:
    return load_questions(QUESTIONS / f"{name}.jsonl")


def test_25_questions_of_one_hop_and_15_of_two(name, rows):
    assert [row["metadata"]["hops"] for row in rows] == [1] * 25 + [2] * 15
    assert [row["id"] for row in rows] == [f"{name}_{number:02}" for number in range(1, 41)]
    assert len({normalize(row["question"]) for row in rows}) == 40
    for row in rows:
        found = row["metadata"]
        assert row["question"].endswith("?") and len(found["pages"]) == found["hops"] == 1 + ("bridge" in found), row


def test_answers_are_short_and_differ(rows):
    for row in rows:
        answers = [normalize(answer) for answer in row["golden_answers"]]
        assert all(answers) and len(set(answers)) == len(answers), row
        assert max(len(answer.split()) for answer in row["golden_answers"]) <= 5, row


def documents(name: str, folder: Path) -> Path:
    """The folder of the collection; Python's is made below `folder` by the page's command."""
    if name == "django":
        if not DJANGO.is_dir():
            pytest.skip(f"no {DJANGO.relative_to(ROOT)}: docs/own_documents.md says how to make it")
        return DJANGO
    if sys.version_info >= (3, 14) or not importlib.util.find_spec("pydoc_data"):
        pytest.skip("the questions are on the chapters of Python 3.11 to 3.13; this Python has none or later ones")
    (line,) = [line for line in commands(ROOT / "docs" / "own_documents.md") if "pydoc_data" in line]
    (folder / "runs" / "python_docs").mkdir(parents=True)
    (code,) = re.findall('-c "(.*)"', line)
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    return folder / "runs" / "python_docs"


def test_every_answer_stands_in_its_page(name, rows, tmp_path, script):
    corpus = tmp_path / "corpus.jsonl"
    assert script("asl_min.search.ingest", documents(name, tmp_path), "--out", corpus) == 0
    pages = pages_of(load_corpus(corpus))
    for row in rows:
        assert not faults(row, pages), (row, faults(row, pages))
        last = pages[row["metadata"]["pages"][-1]]
        assert not [answer for answer in row["golden_answers"] if not stands_in(answer, last)], row
