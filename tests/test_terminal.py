"""What scripts say: bars, nothing or JSON lines; `--dry-run`, which does nothing."""

import dataclasses
import io
import json
import subprocess
import sys

import pytest
from made_up import summary, write_results
from rich.console import Console

from asl_min.config import Config
from asl_min.model import ROLES
from asl_min.run import dry_run, run_dir, terminal


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    monkeypatch.setattr(terminal, "mode", "bar")
    monkeypatch.setattr(terminal, "run_facts", {"accuracy": None, "seconds_left": None})


def steps(*rewards: float, shown: bool = True) -> None:
    with terminal.progress(0, len(rewards), shown, round=2, phase="policy") as advance:
        for reward in rewards:
            advance(reward)


def test_bar_says_phase_step_reward_accuracy_and_time_left(capsys):
    terminal.run_facts.update(accuracy=0.689, seconds_left=300.0)
    assert terminal.note(0.5) == "reward 0.500, accuracy 68.9%, run 5 min left"
    steps(0.25, 0.5)
    said = capsys.readouterr()
    assert said.out == "" and said.err == "round 2 policy: 2/2, reward 0.500, accuracy 68.9%, run 5 min left\n"


def test_log_gets_a_line_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "LOG_SECONDS", 0.0)
    steps(0.25, 0.5)
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "round 2 policy: 1/2",
        "round 2 policy: 2/2",
    ]


@pytest.mark.parametrize("width", [80, 140])
def test_bar_fits_the_terminal_with_its_figures(width, monkeypatch):
    """Nothing of what is done, how far and how well is cut off."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width)
    monkeypatch.setattr(terminal, "Console", lambda **_: console)
    terminal.run_facts.update(accuracy=0.689, seconds_left=300.0)
    with terminal.progress(0, 16, True, round=2, phase="prompt_generator") as advance:
        advance(0.5)
    said = screen.getvalue()
    assert all(part in said for part in ("round 2 prompt generator", "1/16", "accuracy 68.9%, run 5 min left"))
    assert ("━" in said) is (width == 140)


def test_bar_without_figures_yet():
    assert terminal.note(0.5) == "reward 0.500"


def test_json_lines_are_one_object_a_step(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "mode", "json")
    terminal.run_facts["accuracy"] = 0.5
    steps(0.25, 0.75)
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    where = {"event": "step", "round": 2, "phase": "policy", "of": 2, "accuracy": 0.5, "seconds_left": None}
    assert found == [where | {"step": 1, "reward": 0.25}, where | {"step": 2, "reward": 0.75}]


def test_quiet_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "mode", "quiet")
    steps(0.25)
    terminal.say("a table", "round", n=1)
    assert capsys.readouterr() == ("", "")


def test_other_processes_say_nothing(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "mode", "json")
    steps(0.25, shown=False)
    assert capsys.readouterr() == ("", "")


def test_facts_of_a_run_are_forgotten_with_it():
    for _ in range(2):
        with terminal.one_run():
            assert terminal.note(0.5) == "reward 0.500"
            terminal.run_facts["accuracy"] = 0.9
    assert terminal.note(0.5) == "reward 0.500"


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
    assert dry_run.rollouts(config, "evaluation") == 2 * 4 * 2 + 3 * 4 + 5 * 4  # temperatures, hops, questions


def test_plan_of_a_limited_round_is_its_limit(changed):
    config = changed(round_rollouts=30, rounds=3, eval_samples=5)
    assert [dry_run.rollouts(config, role) for role in ROLES] == [30, 8, 30]  # more for tasks, were there no limit
    once = dry_run.rollouts(config, "evaluation")
    assert dry_run.plan(config)["rollouts"] == 3 * 30 + 4 * once + 4 * 2 * 5  # answers for pass@k, of the base alone


def test_plan_of_the_miniature_bounds_what_it_spent():
    """`spent`: episodes and judge calls in the four rounds of a real run."""
    spent = [11699, 9791, 12258, 13918]
    bound = sum(dry_run.rollouts(Config(), role) for role in ("prompt_generator", "reward_model", "policy"))
    assert all(bound / 2 < rollouts <= bound for rollouts in spent)


def test_plan_leaves_out_what_is_done_and_takes_its_rate(config, tmp_path, capsys):
    run_dir.create(tmp_path, config)
    run_dir.finish(run_dir.begin(tmp_path, 1, "policy"), {"episodes": 30, "judge_calls": 10, "seconds": 2.0})
    dry_run.tell_plan(dry_run.plan(config, tmp_path))
    said = capsys.readouterr().out
    assert (
        "1 x policy" in said
        and "2 x reward model" in said
        and "at 20 rollouts/s (1 finished phases of this run)" in said
    )


def test_plan_says_that_nobody_knows_the_rate_of_another_base(config, capsys):
    plan = dry_run.plan(config)
    dry_run.tell_plan(plan)
    assert plan["minutes"] is None
    assert "time: not known before a phase of this base is finished" in capsys.readouterr().out


def test_plan_counts_parameters_without_weights(config, model):
    assert dry_run.plan(config)["parameters"] == model.num_parameters()


def test_rounds_dry_run_makes_no_folder(config, tmp_path, script, capsys):
    (tmp_path / "c.yaml").write_text(run_dir.dump_config(config))
    assert script("asl_min.rounds", "--config", tmp_path / "c.yaml", "--run", tmp_path / "run", "--dry-run") == 0
    assert "nothing is done now" in capsys.readouterr().out and not (tmp_path / "run").exists()


@pytest.mark.parametrize("json_too", [False, True])
@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("asl_min.evaluate", ["--run", "{run}"]),
        ("asl_min.tools.report", ["{run}"]),
        ("asl_min.tools.ask", ["{run}", "q?"]),
        ("asl_min.tools.share", ["{run}", "--out", "{out}"]),
        ("asl_min.search.ingest", ["{docs}", "--out", "{out}"]),
        ("asl_min.train_policy", ["--run", "{run}", "--round", "1"]),
        ("asl_min.rounds", ["--run", "{run}"]),
        ("reproduce.run", ["--config", "{run}/config.yaml", "--run", "{out}"]),
        ("reproduce.preregistration", ["--results", "{out}"]),
        ("reproduce.claims", ["--results", "{results}"]),
        ("reproduce.figures", ["--results", "{results}"]),
        ("reproduce.verify", ["{results}/runs/b01_asl_gen_rm_seed0.json", "--runs", "{out}"]),
        ("reproduce.runner", ["--profile", "p", "--arms", "{arms}", "--runs", "{out}", "--results", "{out}"]),
    ],
)
def test_dry_runs_write_nothing(module, arguments, json_too, config, tmp_path, script, monkeypatch, capsys):
    """With `--json` what is said is one JSON document."""
    paths = {name: tmp_path / name for name in ("run", "out", "docs", "results", "arms")}
    run_dir.create(paths["run"], config)
    settings = dataclasses.asdict(config) | {"arm": "asl_gen_rm"}
    runs = [summary("b01", "asl_gen_rm", seed, 0.3, 0.4, config=settings) for seed in range(2)]
    monkeypatch.setattr("reproduce.records.base_name", lambda base_model: "b01")
    monkeypatch.setattr("reproduce.verify.RESULTS", paths["results"])
    write_results(paths["results"], runs)
    paths["arms"].write_text("p: {bases: [b01], arms: {frozen_grm: 1}}")
    paths["docs"].mkdir()
    (paths["docs"] / "a.txt").write_text("some words")
    before = sorted(tmp_path.rglob("*"))
    flags = ["--dry-run", "--json"] if json_too else ["--dry-run"]
    assert script(module, *(a.format(**paths) for a in arguments), *flags) == 0
    said = capsys.readouterr().out
    assert isinstance(json.loads(said), dict) if json_too else said
    assert sorted(tmp_path.rglob("*")) == before


def test_reader_that_stops_reading_ends_no_script_with_a_traceback():
    script = "from asl_min.run.terminal import tell; tell('x' * 100_000); tell('y')"
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    child.stdout.close()
    assert child.stderr.read() == "" and child.wait() == 0
