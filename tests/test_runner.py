"""The runner: what a profile asks for, what is skipped, what is continued."""

import dataclasses
import json
import re
import sys

import pytest
import yaml
from helpers import ROOT
from rich.console import Console

from asl_min import train_prompt_generator
from asl_min.run import run_dir
from asl_min.run.errors import InputError
from asl_min.run.inputs import prepare
from reproduce import runner


@pytest.fixture
def arms(tmp_path, config):
    """A profile of two seeds of asl and one of frozen_grm at the sizes of the small config, one round."""
    small = {k: v for k, v in dataclasses.asdict(config).items() if v != getattr(type(config)(), k) and k != "seed"}
    profile = {"arms": {"asl": 2, "frozen_grm": 1}, "settings": small | {"rounds": 1}}
    (tmp_path / "arms.yaml").write_text(yaml.safe_dump({"small": profile, "wrong": {"arms": {"asl": 1}, "sets": {}}}))
    return tmp_path / "arms.yaml"


def jobs_of(arms, profile="small"):
    return runner.load_jobs(arms, profile, arms.parent / "runs", arms.parent / "results")


def run(jobs, width=2):
    return runner.run_all(jobs, width, Console(quiet=True))


def test_first_seeds_of_all_arms_come_first(arms):
    assert [job.run.name for job in jobs_of(arms)] == ["small_asl_seed0", "small_frozen_grm_seed0", "small_asl_seed1"]


def test_shipped_profiles_name_recipes_and_seeds_enough(tmp_path):
    full = runner.load_jobs(runner.ARMS, "full", tmp_path, tmp_path)
    seeds = {arm: sum(job.arm == arm for job in full) for arm in {job.arm for job in full}}
    assert min(seeds.values()) >= 3
    assert all(seeds[arm] >= 5 for arm in ("asl", "frozen_grm", "search_r1_64", "absolute_zero", "r_zero"))
    assert [job.arm for job in runner.load_jobs(runner.ARMS, "quick", tmp_path, tmp_path)] == [
        "asl",
        "frozen_grm",
        "search_r1_64",
    ]
    assert len({job.run for job in full}) == len({job.result for job in full}) == len(full)


def test_all_runs_of_the_quick_and_full_profiles_are_recorded_with_the_settings_of_today(tmp_path):
    results = ROOT / "reproduce" / "results"
    assert all(
        job.is_finished()
        for profile in ("quick", "full")
        for job in runner.load_jobs(runner.ARMS, profile, tmp_path, results)
    )


def test_learning_rates_are_tried_on_the_validation_split(tmp_path):
    jobs = runner.load_jobs(runner.ARMS, "lr", tmp_path / "runs", tmp_path / "results")
    assert all(job.config().eval_split == "validation" for job in jobs)
    assert len({job.config().learning_rate for job in jobs if job.arm == "asl"}) == 3
    assert jobs[0].result == tmp_path / "results" / "lr" / "asl_seed0_lr0.00015.json"


@pytest.mark.parametrize(
    ("profiles", "said"),
    [
        ("[", "not YAML"),
        ("[1]", "no profile 'r'"),
        ("r: 3", "profile 'r': expected keys and values, found 3"),
        ("r: {}", "'arms' must give .* found None"),
        ("r: {arms: {}}", "'arms' must give .* found {}"),
        ("r: {arms: {asl: x}}", "'arms' must give .* found {'asl': 'x'}"),
        ("r: {arms: {asl: 0}}", "'arms' must give"),
        ("r: {arms: {asl: 1}, settings: 3}", "'settings' must be keys and values, found 3"),
        ("r: {arms: {asl: 1}, learning_rates: 1.0}", "'learning_rates' must be a list"),
        (None, "no such file"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_profile_of_the_wrong_form_is_refused(profiles, said, flags, tmp_path, script, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if profiles is not None:
        (tmp_path / "a.yaml").write_text(profiles)
    assert script("reproduce.runner", "--profile", "r", "--arms", "a.yaml", *flags) == 2
    error = capsys.readouterr().err
    assert re.search(f"^error: a.yaml: .*{said}", error) and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("measured", [{"mean": 0.5}, None])
def test_one_run_tells_its_summary_as_json(measured, config, tmp_path, script, monkeypatch, capsys):
    (tmp_path / "c.yaml").write_text(run_dir.dump_config(config))
    monkeypatch.setattr("reproduce.run.run_rounds", lambda run: {"rounds": [{"accuracy": measured}]})
    assert script("reproduce.run", "--config", tmp_path / "c.yaml", "--run", tmp_path / "run", "--json") == 0
    accuracy = measured and measured["mean"]
    expected = {"summary": str(tmp_path / "run" / "summary.json"), "rounds": 2, "accuracy": accuracy}
    assert json.loads(capsys.readouterr().out) == expected


def test_kept_summary_that_is_none_is_refused(arms):
    job = jobs_of(arms)[0]
    job.result.parent.mkdir(parents=True)
    job.result.write_text("{}")
    with pytest.raises(InputError, match=r"asl_seed0\.json: not the summary of a run"):
        job.is_finished()


@pytest.mark.parametrize(("profile", "said"), [("none", "no profile 'none'"), ("wrong", "unknown key 'sets'")])
def test_bad_profile_is_refused(arms, profile, said):
    with pytest.raises(InputError, match=said):
        jobs_of(arms, profile)


@pytest.fixture
def commands(monkeypatch):
    """In the place of a run: a process that writes a summary (or ends with code 3 for frozen_grm). Returns the runs
    started."""
    started = []

    def command(job):
        started.append(job.run.name)
        summary = {"seed": job.seed, "config": dataclasses.asdict(job.config())}
        summary |= {"rounds": [{"accuracy": {"mean": 0.123456789}}]}
        code = f"import pathlib; p = pathlib.Path({str(job.run)!r}); p.mkdir()"
        code += f"; (p / 'summary.json').write_text({json.dumps(summary)!r})"
        return [sys.executable, "-c", "raise SystemExit(3)" if job.arm == "frozen_grm" else code]

    monkeypatch.setattr(runner.Job, "command", command)
    return started


def test_finished_runs_are_skipped_and_failed_ones_tried_again(arms, commands):
    states = run(jobs_of(arms))
    assert list(states.values()) == ["finished", "failed (3)", "finished"]
    kept = json.loads((arms.parent / "results" / "small" / "asl_seed1.json").read_text())
    assert kept["config"]["seed"] == 1 and kept["rounds"][0]["accuracy"]["mean"] == 0.12346
    assert sorted(commands) == ["small_asl_seed0", "small_asl_seed1", "small_frozen_grm_seed0"]
    run(jobs_of(arms))
    assert commands[3:] == ["small_frozen_grm_seed0"]


def test_recorded_runs_are_run_again_by_whoever_asks(arms, commands, monkeypatch, script):
    """The command keeps its own summaries beside its runs: the shipped record does not make a run a finished one."""
    arms.write_text(yaml.safe_dump({"one": {"arms": {"asl": 1}}}))
    assert (ROOT / "reproduce" / "results" / "runs" / "asl_seed0.json").is_file()
    monkeypatch.chdir(arms.parent)
    assert script("reproduce.runner", "--profile", "one", "--arms", arms) == 0
    assert commands == ["asl_seed0"] and (arms.parent / "runs" / "results" / "runs" / "asl_seed0.json").is_file()


def test_kept_summary_of_other_settings_is_refused(arms, commands):
    run(jobs_of(arms)[:1])
    arms.write_text(arms.read_text().replace("rounds: 1", "rounds: 2"))
    with pytest.raises(InputError, match="rounds = 1, now 2"):
        run(jobs_of(arms)[:1])


def test_interrupted_run_goes_on_after_its_last_phase(arms):
    """A real run in its own process, whose first phase was done before."""
    job = jobs_of(arms)[0]
    prepare(job.run, job.config())
    train_prompt_generator.run_phase(job.run, 1)
    mark = run_dir.phase_dir(job.run, 1, "prompt_generator") / "done.json"
    before = mark.stat().st_mtime_ns
    assert run([job]) == {job: "finished"}, job.run.with_name(job.run.name + ".log").read_text()[-2000:]
    assert mark.stat().st_mtime_ns == before
    kept = json.loads(job.result.read_text())
    assert [row["round"] for row in kept["rounds"]] == [0, 1] and len(job.result.read_bytes()) < 40_000
    assert job.is_finished()
