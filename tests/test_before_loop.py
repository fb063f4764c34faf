"""What the cold-started model can do before the loop: a part that is done is kept."""

import json
from dataclasses import replace

import pytest

from asl_min.run.errors import InputError
from reproduce import before_loop, real_tables

EVALUATED = {"base_model", "config", "accuracy", "accuracy_greedy", "grm"}


def ended(*_: object) -> dict:
    raise KeyboardInterrupt


def test_killed_measurement_goes_on_after_the_last_part(config, tmp_path, monkeypatch):
    config, file = replace(config, eval_greedy=True, eval_per_hop=1, eval_judgments=2), tmp_path / "before.json"
    monkeypatch.setattr(before_loop, "roles", ended)
    with pytest.raises(KeyboardInterrupt):
        before_loop.before(config, 1, 2, file)
    first = json.loads(file.read_text())
    assert set(first) == EVALUATED and first["accuracy"] and first["grm"]
    monkeypatch.undo()
    monkeypatch.setattr(before_loop, "evaluation", ended)
    before_loop.before(config, 1, 2, file)
    whole = json.loads(file.read_text())
    assert {name: whole[name] for name in first} == first
    assert whole["roles"]["asked"] == 2 and whole["sampled"]["samples"] == before_loop.SAMPLES
    with pytest.raises(InputError, match=r"before\.json: measured with learning_rate = 0.001, now 0.5; move it away"):
        before_loop.before(replace(config, learning_rate=0.5), 1, 2, file)


def test_file_of_another_kind_is_refused(config, tmp_path):
    file = tmp_path / "before.json"
    for text in ("{", "[]", '{"config": {}}'):
        file.write_text(text)
        with pytest.raises(InputError, match=r"before\.json: not what this command writes"):
            before_loop.before(config, 1, 1, file)


def test_parts_that_are_missing_are_left_out_of_the_table():
    accuracy = {"mean": 0.2, "interval": [0.15, 0.26], "sets": {}}
    judge = {"balanced_accuracy": 0.61, "by_kind": {}}
    text = real_tables.before_text({"accuracy": accuracy, "accuracy_greedy": accuracy, "grm": judge})
    assert "61.0" in text and "well-formed" not in text and "answers to each" not in text
