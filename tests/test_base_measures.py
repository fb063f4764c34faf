"""What is measured of a base before the loop: on a random base, by the script of test_phases, and by hand."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import make_episode, small_tool
from test_phases import ROOMY, ScriptedSampler

from asl_min.episode import Turn
from asl_min.evaluate import evaluate_agent
from asl_min.phase import Agent
from asl_min.run.durable import digest
from asl_min.tools.base_measures import label_free_of, measure
from asl_min.tools.probe import title_found


def test_label_free_measures_by_the_script(changed, monkeypatch):
    """Three of four episodes write a task, a third of these with B, which the judge votes against; it is always of one
    mind. Attempts say A or B."""
    monkeypatch.setattr("asl_min.sampling.generate.Generator", ScriptedSampler)
    found = label_free_of(Agent(changed(**ROOMY | {"eval_tasks": 60}), {}))
    assert found["well_formed"] == pytest.approx(3 / 4, abs=0.2)
    assert found["gate_share"] == pytest.approx(2 / 3, abs=0.25)
    assert found["vote_agreement"] == 1.0 and found["title_found"] is None
    assert 0.5 <= found["attempt_agreement"] < 1 and 0 < found["entropy"] < 0.7


def test_title_found_is_the_share_of_queries_that_bring_the_page_they_name():
    turns = (Turn("t", ("Paris", "a city"), "r"), Turn("t", ("rome",), "r"), Turn("t"))
    assert title_found([replace(make_episode(0, 4, [3]), turns=turns)], small_tool()) == pytest.approx(2 / 3)


def test_random_base_has_all_measures_of_gold_and_nothing_to_vote_on(changed):
    found = json.loads(json.dumps(measure(changed(eval_samples=2))))
    assert found["accuracy"]["mean"] == found["sampled"]["pass@2"] == 0.0 == found["gold"]["headroom"]
    assert found["label_free"]["well_formed"] == 0 and found["label_free"]["gate_share"] is None
    assert {"grm", "pg", "accuracy_greedy", "seconds", "base_model"} <= set(found)


def test_script_writes_the_file(script, base, data, tmp_path, capsys):
    inputs = [f"{key}={data / f'{key}.jsonl'}" for key in ("corpus", "questions", "judgments")]
    sizes = [
        "eval_per_hop=1",
        "eval_samples=2",
        "eval_judgments=2",
        "eval_tasks=2",
        "max_turns=2",
        "max_turn_tokens=12",
    ]
    words = ["--base", base, "--out", tmp_path / "base.json", *inputs, *sizes]
    assert script("asl_min.tools.base_measures", *words, "--dry-run") == 0 and not (tmp_path / "base.json").exists()
    assert script("asl_min.tools.base_measures", *words) == 0
    found = json.loads((tmp_path / "base.json").read_text())
    assert "label_free" in found and found["base_weights"] == digest(Path(base) / "model.safetensors")
    assert script("asl_min.tools.base_measures", *words, "eval_saples=2") == 2
    assert "unknown key 'eval_saples'" in capsys.readouterr().err


def test_greedy_and_sampled_answers_are_measured_where_asked(changed):
    results, rows = evaluate_agent(Agent(changed(eval_greedy=False, judgments=None, oracle=None), {}), samples=3)
    assert results["accuracy_greedy"] is None and "policy_greedy.jsonl" not in rows
    assert {"pass@1", "pass@2", "pass@3", "majority", "agreement"} == set(results["sampled"])
    results, _ = evaluate_agent(Agent(changed(judgments=None, oracle=None), {}))
    assert results["accuracy_greedy"] and results["sampled"] is None
