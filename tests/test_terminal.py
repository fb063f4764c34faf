"""What scripts say: bars, nothing or JSON lines; `--dry-run`, which does nothing; help that shows how."""

import argparse
import json
import sys

import pytest
from helpers import ROOT

from asl_min import evaluate, rounds, train_policy, train_prompt_generator, train_reward_model
from asl_min.config import Config
from asl_min.phase import phase_main
from asl_min.run import dry_run, run_dir, terminal
from asl_min.run.errors import InputError
from asl_min.search import ingest
from asl_min.tools import ask, report, share


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    monkeypatch.setattr(terminal, "mode", "bar")
    monkeypatch.setattr(terminal, "run_facts", {"accuracy": None, "seconds_left": None})


def parsed(*arguments: str) -> argparse.Namespace:
    return terminal.parse(argparse.ArgumentParser(), list(arguments))


def steps(*rewards: float, shown: bool = True) -> None:
    with terminal.progress(0, len(rewards), shown, round=2, phase="policy") as advance:
        for reward in rewards:
            advance(reward)


def test_bar_says_phase_step_reward_accuracy_and_time_left(capsys):
    terminal.run_facts.update(accuracy=0.689, seconds_left=300.0)
    assert terminal.note(0.5) == "reward 0.500, accuracy 68.9%, run 5 min left"
    steps(0.25, 0.5)
    said = capsys.readouterr()
    assert said.out == "" and "round 2 phase policy" in said.err and "reward 0.500" in said.err


def test_bar_without_figures_yet():
    assert terminal.note(0.5) == "reward 0.500"


def test_json_lines_are_one_object_a_step(capsys):
    parsed("--json")
    terminal.run_facts["accuracy"] = 0.5
    steps(0.25, 0.75)
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    where = {"event": "step", "round": 2, "phase": "policy", "of": 2, "accuracy": 0.5, "seconds_left": None}
    assert found == [where | {"step": 1, "reward": 0.25}, where | {"step": 2, "reward": 0.75}]


def test_quiet_says_nothing(capsys):
    parsed("--quiet")
    steps(0.25)
    terminal.say("a table", "round", n=1)
    assert capsys.readouterr() == ("", "")


def test_other_processes_say_nothing(capsys):
    parsed("--json")
    steps(0.25, shown=False)
    assert capsys.readouterr() == ("", "")


def test_quiet_and_json_exclude_each_other():
    with pytest.raises(SystemExit):
        parsed("--quiet", "--json")


def test_flags_may_stand_between_operands():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("question", nargs="?")
    assert terminal.parse(parser, ["base", "--quiet", "What?"]).question == "What?"


# --- dry run


def test_plan_counts_the_episodes_of_a_round(changed):
    config = changed(
        pg_max_steps=2,
        pg_prompts=3,
        pg_samples=4,
        verify_samples=5,
        attempts=6,
        grm_max_steps=7,
        grm_prompts=8,
        grm_samples=9,
    )
    assert [dry_run.rollouts(config, role) for role in ("prompt_generator", "reward_model")] == [
        2 * 3 * 4 * (1 + 5 + 12),
        7 * 8 * 9,
    ]
    assert dry_run.rollouts(config, "policy") == 2 * 2 * 2 * 2  # steps, tasks, samples; an answer and its verdict
    assert dry_run.rollouts(config, "evaluation") == 2 * 6 + 3 * 4 + 4 * 4


def test_plan_of_the_miniature_bounds_what_it_spent():
    """reproduce/results/runs/asl_seed0.json is the summary of a real run."""
    spent = json.loads((ROOT / "reproduce" / "results" / "runs" / "asl_seed0.json").read_text())["rounds"][1:]
    bound = sum(dry_run.rollouts(Config(), role) for role in ("prompt_generator", "reward_model", "policy"))
    assert all(bound / 2 < r["episodes"] + r["judge_calls"] <= bound for r in spent)


def test_plan_leaves_out_what_is_done_and_takes_its_rate(config, tmp_path):
    run_dir.create(tmp_path, config)
    run_dir.finish(run_dir.begin(tmp_path, 1, "policy"), {"episodes": 30, "judge_calls": 10, "seconds": 2.0})
    said = dry_run.plan(config, tmp_path)
    assert (
        "1 x policy" in said
        and "2 x reward model" in said
        and "at 20 rollouts/s (1 finished phases of this run)" in said
    )


def test_facts_of_a_plan_are_json(config, tmp_path):
    run_dir.create(tmp_path, config)
    facts = dry_run.plan_facts(config, tmp_path, [(0, "evaluation"), (1, "policy"), (2, "policy")])
    assert json.loads(json.dumps(facts)) == facts
    assert {phase: of["due"] for phase, of in facts["phases"].items()} == {"policy": 2, "evaluation": 1}
    assert facts["rollouts"] == 2 * 16 + 40 and facts["passages"] == 40 and facts["minutes"] is None
    assert dry_run.plan_text(facts) == dry_run.plan(config, tmp_path, [(0, "evaluation"), (1, "policy"), (2, "policy")])


def test_plan_says_that_nobody_knows_the_rate_of_another_base(config):
    assert "not known before a phase of this base is finished" in dry_run.plan(config)


def test_plan_counts_parameters_without_weights(config, model):
    assert f"{model.num_parameters():,} parameters" in dry_run.plan(config)


def test_plan_of_a_base_that_is_not_there(changed):
    with pytest.raises(InputError, match="base_model"):
        dry_run.plan(changed(base_model="/nowhere"))


def test_rounds_dry_run_makes_no_folder(config, tmp_path, monkeypatch, capsys):
    (tmp_path / "c.yaml").write_text(run_dir.dump_config(config))
    monkeypatch.setattr(
        sys, "argv", ["rounds", "--config", str(tmp_path / "c.yaml"), "--run", str(tmp_path / "run"), "--dry-run"]
    )
    rounds.main()
    assert "nothing is done now" in capsys.readouterr().out and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (evaluate.main, ["--run", "{run}"]),
        (report.main, ["{run}"]),
        (ask.main, ["{run}", "q?"]),
        (share.main, ["{run}", "--out", "{out}"]),
        (ingest.main, ["{docs}", "--out", "{out}"]),
    ],
)
def test_dry_runs_write_nothing(main, arguments, config, tmp_path, monkeypatch, capsys):
    paths = {"run": tmp_path / "run", "out": tmp_path / "out", "docs": tmp_path / "docs"}
    run_dir.create(paths["run"], config)
    paths["docs"].mkdir()
    (paths["docs"] / "a.txt").write_text("some words")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["script", *(a.format(**paths) for a in arguments), "--dry-run"])
    main()
    assert capsys.readouterr().out.strip() and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "module", [rounds, evaluate, report, ask, ingest, share, train_prompt_generator, train_reward_model, train_policy]
)
def test_help_shows_an_example(module, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script", "--help"])
    with pytest.raises(SystemExit):
        module.main() if hasattr(module, "main") else phase_main(module.ROLE, module.run_phase, module.__doc__)
    said = capsys.readouterr().out
    assert f"-m {module.__name__} " in said and "--dry-run" in said
