"""The modes of ASL and the controls, in the real phases at their smallest, by the script of test_phases."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_phases import ROOMY, ScriptedSampler, new_run, rows
from test_recipes import round_of, spent

from asl_min import rewards, train_prompt_generator
from asl_min.episode import Task
from asl_min.model import ROLES
from asl_min.recipes import asl_gen_rm
from asl_min.run import run_dir


@pytest.fixture
def scripted_run(config, tmp_path, monkeypatch):
    """Makes a run whose sampler is the script."""
    monkeypatch.setattr("asl_min.sampling.generate.Generator", ScriptedSampler)
    return lambda **values: new_run(tmp_path / "run", replace(config, **ROOMY | values))


def drafts_of(folders: dict[str, Path]) -> list[Task]:
    found = [Task.of_record(row) for row in rows(folders["prompt_generator"], "drafts.jsonl")]
    return [task for task in found if task.well_formed]


# --- modes


def test_rule_mode_judges_votes_and_policy_but_no_attempt_of_phase_1(scripted_run):
    """A is an article, of which normalisation leaves nothing to be contained in an answer."""
    folders = round_of(scripted_run(recipe="asl_rule", verify_threshold=0.0))
    formed = drafts_of(folders)
    for task in formed:
        assert task.verdicts == tuple(answer == task.answer == "B" for answer in task.answers)
        assert len(task.answers) == 6
        assert task.votes == (task.answer == "A",) * 5
    facts = spent(folders)
    assert facts["prompt_generator"]["judge_calls"] == 5 * len(formed)
    assert facts["policy"]["judge_calls"] == facts["policy"]["episodes"] > 0
    labelled = rows(folders["reward_model"], "labelled.jsonl")
    assert labelled and all(t["label"] == (t["answer"] == t["reference"] == "B") for t in labelled)


def test_gen_rm_mode_judges_every_attempt(scripted_run):
    folders = round_of(scripted_run(recipe="asl_gen_rm"))
    formed = drafts_of(folders)
    assert {task.answer for task in formed} == {"A", "B"}
    assert all(task.verdicts == tuple(answer == "A" for answer in task.answers) for task in formed)
    assert spent(folders)["prompt_generator"]["judge_calls"] == (5 + 6) * len(formed)
    labelled = rows(folders["reward_model"], "labelled.jsonl")
    assert any(t["reference"] == "B" for t in labelled) and all(t["label"] == t["verdict"] for t in labelled)


def test_results_in_meta_prompts_are_the_own_answer_and_that_of_most_attempts(scripted_run):
    run = scripted_run(meta_prompts="results")
    folder = round_of(run)["policy"]
    asked = [row["fields"] for row in rows(folder, "meta_prompts.jsonl")]
    outcomes = rows(folder, "outcomes.jsonl")
    for fields in asked:
        said = [o["answer"] for o in outcomes if o["question"] == fields["question"]]
        assert fields["answer"] == "A" and fields["attempted"] == rewards.majority(said)
    train_prompt_generator.run_phase(run, 2)
    episodes = rows(run_dir.phase_dir(run, 2, "prompt_generator"), "episodes.jsonl")
    assert all(e["prompt"] == "task_from_result" and e["fields"] in asked for e in episodes)


# --- controls


def adapter_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def test_frozen_roles_act_and_are_not_updated(scripted_run):
    folders = round_of(scripted_run(frozen=["prompt_generator", "reward_model"], adapters="per_role"))
    facts = spent(folders)
    assert [facts[role]["optimizer_steps"] > 0 for role in ROLES] == [False, False, True]
    assert [facts[role]["steps"] for role in ROLES] == [2, 0, 2]
    assert rows(folders["prompt_generator"], "tasks.jsonl")
    assert all((w == 0).all() for n, w in adapter_of(folders["prompt_generator"]).items() if "lora_B" in n)


def test_without_votes_every_well_formed_task_passes(scripted_run):
    formed = drafts_of(round_of(scripted_run(verify_samples=0)))
    assert {task.answer for task in formed} == {"A", "B"} and not any(task.votes for task in formed)
    assert all(task.verified and task.reward == asl_gen_rm.entropy(task.verdicts) for task in formed)


def test_random_tasks_are_as_many_as_earned_something(scripted_run):
    folders = round_of(scripted_run(recipe="random_tasks"))
    drafts = [Task.of_record(row) for row in rows(folders["prompt_generator"], "drafts.jsonl")]
    for step in rewards.by_prompt(drafts, 8):
        assert sum(task.kept for task in step) == sum(task.reward > 0 for task in step)
    assert all(task.verdicts for task in drafts if task.kept) and any(task.kept for task in drafts)


def test_sharpening_rewards_agreement_and_judges_nothing(scripted_run):
    folders = round_of(scripted_run(recipe="sharpening", frozen=["prompt_generator"]))
    facts = spent(folders)
    assert sum(f["judge_calls"] for f in facts.values()) == 0 == facts["reward_model"]["steps"]
    assert facts["prompt_generator"]["episodes"] == 2 * 4 * 2  # no attempts
    for group in rewards.by_prompt(rows(folders["policy"], "outcomes.jsonl"), 4):
        most = rewards.majority([o["answer"] for o in group])
        assert [o["verdict"] for o in group] == [o["answer"] == most for o in group]


def test_imitation_learns_from_episodes_judged_correct_alone(scripted_run):
    folders = round_of(scripted_run(recipe="imitation", frozen=["reward_model"]))
    episodes = rows(folders["policy"], "episodes.jsonl")
    assert episodes and all(e["meta"]["verdict"] is True and e["advantage"] == 1.0 for e in episodes)
    assert len(rows(folders["policy"], "outcomes.jsonl")) > len(episodes)
    assert spent(folders)["policy"]["optimizer_steps"] > 0
