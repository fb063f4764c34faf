"""The guard: gold answers are out of reach inside a training phase, and only there."""

import os
from pathlib import Path

import pytest
from conftest import TARGET

from asl_min.corpus import load_questions
from asl_min.run import gold
from asl_min.world.oracle import Oracle
from asl_min.world.world import load_world


@pytest.fixture
def declared(tmp_path) -> Path:
    """A file declared gold."""
    file = tmp_path / "answers.jsonl"
    file.write_text("42")
    gold.declare(file)
    return file


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(load_world("target"))


ACCESSES = {
    "load_world": lambda oracle: load_world("target"),
    "Oracle.of": lambda oracle: Oracle.of("target"),
    "Oracle.parse": lambda oracle: oracle.parse("x"),
    "Oracle.right": lambda oracle: oracle.right("x", "y"),
    "load_questions": lambda oracle: load_questions(TARGET / "questions.jsonl"),
}


@pytest.mark.parametrize("access", ACCESSES)
def test_gold_is_refused_in_training(access, oracle):
    with gold.training("round 1, policy"), pytest.raises(gold.GoldAccessError, match="during round 1, policy"):
        ACCESSES[access](oracle)


@pytest.mark.parametrize("access", ACCESSES)
def test_gold_is_at_hand_outside_training(access, oracle):
    with gold.training("round 1, policy"):
        pass
    ACCESSES[access](oracle)


OPENERS = {
    "open": lambda path: open(path).close(),
    "open bytes": lambda path: open(os.fsencode(path), "rb").close(),
    "os.open": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "read_text": lambda path: path.read_text(),
    "write_text": lambda path: path.write_text("43"),
    "relative": lambda path: open(os.path.relpath(path)).close(),
    "detour": lambda path: open(path.parent / ".." / path.parent.name / path.name).close(),
}


@pytest.mark.parametrize("opener", OPENERS)
def test_declared_file_cannot_be_opened_in_training(opener, declared):
    with gold.training("p"), pytest.raises(gold.GoldAccessError):
        OPENERS[opener](declared)
    OPENERS[opener](declared)


def test_declared_file_cannot_be_opened_through_a_link(declared):
    link = declared.with_name("link")
    link.symlink_to(declared)
    with gold.training("p"), pytest.raises(gold.GoldAccessError):
        link.read_text()


def test_file_under_a_declared_folder_cannot_be_opened_in_training(tmp_path):
    folder = tmp_path / "evaluation"
    gold.declare(folder)
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "results.json").write_text("{}")
    with gold.training("p"), pytest.raises(gold.GoldAccessError):
        (folder / "deep" / "results.json").read_text()


def test_file_beside_a_declared_one_can_be_opened_in_training(declared):
    with gold.training("p"):
        declared.with_name("answers.jsonl.other").write_text("fine")
        assert declared.with_name("answers.jsonl.other").read_text() == "fine"


def test_inner_phase_does_not_lift_the_outer_ones_guard(declared):
    with gold.training("outer"):
        with gold.training("inner"), pytest.raises(gold.GoldAccessError, match="during inner"):
            declared.read_text()
        with pytest.raises(gold.GoldAccessError, match="during outer"):
            declared.read_text()
    assert declared.read_text() == "42"


def test_guard_is_released_after_an_exception(declared):
    with pytest.raises(ZeroDivisionError), gold.training("p"):
        raise ZeroDivisionError
    assert declared.read_text() == "42"
