"""The runs on real weights: arms over another config, and what preregistered_real.yaml names."""

import pytest

from asl_min.config import load_config
from asl_min.run.errors import InputError
from reproduce import designs, jobs, runner

ROOT = jobs.ROOT
OVER = "configs/smollm2-135m.yaml"


def test_values_of_an_arm_are_those_of_its_files_above_the_miniature():
    assert jobs.arm_values("frozen_grm") == {"arm": "frozen_grm", "recipe": "asl_gen_rm", "frozen": ["reward_model"]}
    grounded = jobs.arm_values("absolute_zero_grounded")
    assert (grounded["arm"], grounded["recipe"]) == ("absolute_zero_grounded", "absolute_zero_grounded")
    with pytest.raises(InputError, match=r"nothing.yaml: no such file"):
        jobs.arm_values("nothing")


def test_arm_over_another_config_differs_from_it_in_the_arms_values_alone():
    config = jobs.config_of("some", "frozen_grm", 3, {"rounds": 2}, OVER)
    plain = load_config(ROOT / OVER, base_model=config.base_model, seed=3, rounds=2)
    different = {key for key, value in vars(config).items() if value != getattr(plain, key)}
    assert different == {"arm", "recipe", "frozen"} and config.base_model == "build/bases/some"


def test_command_of_such_a_run_has_the_same_config(tmp_path):
    design = designs.read(designs.REAL)
    found = runner.full_jobs(designs.REAL, tmp_path / "runs", tmp_path, "real")
    assert [(job.base, job.arm, job.seed) for job in found] == design.names()
    assert {job.arm for job in found} >= {"asl_gen_rm", "asl_hybrid", "search_r1_64", "sharpening", "frozen_grm"}
    for job in found:
        words = job.command()
        assert words[words.index("--config") + 1] == str(ROOT / OVER)
        given = dict(word.split("=", 1) for word in words if "=" in word)
        assert given["arm"] == f'"{job.arm}"' and given["threads"] == "1"
        config = job.config()
        assert (config.name, config.round_rollouts, config.top_k) == (job.arm, design.budget.round_rollouts, 1)
    assert found[0].result == tmp_path / "real" / "runs" / f"{found[0].name}.json"


def test_shipped_file_is_marked_a_draft_while_things_are_to_be_chosen():
    text = designs.REAL.read_text()
    assert ("to be chosen" in text) == text.startswith("# DRAFT")


def test_mode_and_rate_are_chosen_over_the_same_config_on_validation_questions(tmp_path):
    found = [job.config() for job in runner.small_jobs(runner.ARMS, "real_choice", tmp_path, tmp_path)]
    assert {(c.name, c.learning_rate) for c in found} == {
        (arm, rate) for arm in ("asl_gen_rm", "asl_hybrid") for rate in (1e-3, 3e-4)
    }
    for config in found:
        named = designs.read(designs.REAL).config(("smollm2-135m-cold", config.name, 0))
        different = {key for key, value in vars(config).items() if value != getattr(named, key)}
        measured = {"questions", "judgments", "eval_tasks", "eval_judgments", "eval_greedy"}
        assert different <= {"rounds", "learning_rate", "labelled_questions"} | measured
        assert "validation" in config.questions and "validation" in config.judgments and config.rounds == 1
