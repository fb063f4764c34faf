"""The runner: what a profile asks for, what is skipped, what is continued."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys

import pytest
import yaml
from helpers import ROOT
from made_up import write_design
from rich.console import Console

from asl_min import train_prompt_generator
from asl_min.run import durable, run_dir
from asl_min.run.errors import InputError
from asl_min.run.inputs import prepare
from reproduce import designs, jobs, runner


@pytest.fixture
def bases(monkeypatch, base, tmp_path):
    """b1 and b2 in the place of the rebuilt bases; both are the tests' random base."""
    monkeypatch.setattr(jobs, "ROOT", tmp_path / "root")
    (tmp_path / "root" / "configs").parent.mkdir()
    (tmp_path / "root" / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "root" / "build" / "bases").mkdir(parents=True)
    for name in ("b1", "b2"):
        (tmp_path / "root" / "build" / "bases" / name).symlink_to(base)


@pytest.fixture
def arms(tmp_path, config, bases):
    """A profile of two bases, two seeds of rule_reward and one of frozen_grm at the sizes of the small config, one
    round."""
    leave = {"seed", "base_model"}
    small = {k: v for k, v in dataclasses.asdict(config).items() if v != getattr(type(config)(), k) and k not in leave}
    profile = {"bases": ["b1", "b2"], "arms": {"rule_reward": 2, "frozen_grm": 1}, "settings": small | {"rounds": 1}}
    variants = {"slow": {"learning_rate": 1e-4}, "fast": {"learning_rate": 1e-2}}
    varied = {"bases": ["b1"], "arms": {"rule_reward": 1}, "settings": {"eval_tasks": 0}, "variants": variants}
    (tmp_path / "arms.yaml").write_text(yaml.safe_dump({"small": profile, "varied": varied}, sort_keys=False))
    return tmp_path / "arms.yaml"


def jobs_of(arms, profile="small"):
    return runner.small_jobs(arms, profile, arms.parent / "runs", arms.parent / "results")


def run(jobs, width=2):
    return runner.run_all(jobs, width, Console(quiet=True))


def test_all_bases_of_the_first_seed_of_an_arm_come_first(arms):
    assert [job.run.name for job in jobs_of(arms)] == [
        "small_b1_rule_reward_seed0",
        "small_b2_rule_reward_seed0",
        "small_b1_frozen_grm_seed0",
        "small_b2_frozen_grm_seed0",
        "small_b1_rule_reward_seed1",
        "small_b2_rule_reward_seed1",
    ]
    assert jobs_of(arms)[0].result == arms.parent / "results" / "small" / "runs" / "b1_rule_reward_seed0.json"


def test_variants_have_folders_of_their_own(arms):
    found = {job.result.relative_to(arms.parent / "results"): job.config() for job in jobs_of(arms, "varied")}
    rates = {str(place): (config.learning_rate, config.eval_tasks) for place, config in found.items()}
    name = "b1_rule_reward_seed0.json"
    assert rates == {f"varied/slow/{name}": (1e-4, 0), f"varied/fast/{name}": (1e-2, 0)}
    assert len({job.run for job in jobs_of(arms, "varied")}) == 2


def test_full_profile_is_what_the_preregistration_names(tmp_path):
    design = write_design(tmp_path / "p.yaml", settings={"eval_tasks": 7})
    found = runner.full_jobs(tmp_path / "p.yaml", tmp_path / "runs", tmp_path / "results")
    assert [(job.base, job.arm, job.seed) for job in found] == design.names()
    assert {job.config().eval_tasks for job in found} == {7}
    assert found[0].result == tmp_path / "results" / "runs" / "b01_rule_reward_seed0.json"
    assert {job.preregistered for job in found} == {designs.digest(tmp_path / "p.yaml")}


def test_each_thread_of_a_run_gets_a_core(arms, monkeypatch):
    monkeypatch.setattr(runner.os, "cpu_count", lambda: 4)
    found = jobs_of(arms)
    widths = [runner.width_of([dataclasses.replace(found[0], settings={"threads": n})]) for n in (0, 1, 2, 3, 8)]
    assert widths == [4, 4, 2, 1, 0]


def test_shipped_profiles_name_arms_that_exist(tmp_path):
    for profile in ("quick", "lr"):
        assert all(job.config().name == job.arm for job in runner.small_jobs(runner.ARMS, profile, tmp_path, tmp_path))
    quick = runner.small_jobs(runner.ARMS, "quick", tmp_path, tmp_path)
    assert len({job.base for job in quick}) >= 3
    population = set(designs.read().bases.names)
    choices = runner.small_jobs(runner.ARMS, "lr", tmp_path, tmp_path)
    assert all(job.config().eval_split == "validation" and job.base not in population for job in choices)


@pytest.mark.parametrize(
    ("profiles", "said"),
    [
        ("[", "not YAML"),
        ("[1]", "no profile 'r'"),
        ("r: 3", "profile 'r': expected keys and values, found 3"),
        ("r: {sets: {}}", "unknown key 'sets'"),
        ("r: {arms: {frozen_grm: 1}}", "'bases' must be a list of names, at least one; found None"),
        ("r: {bases: [], arms: {frozen_grm: 1}}", "'bases' must be .* found \\[\\]"),
        ("r: {bases: [b1]}", "'arms' must give .* found None"),
        ("r: {bases: [b1], arms: {frozen_grm: x}}", "'arms' must give .* found {'frozen_grm': 'x'}"),
        ("r: {bases: [b1], arms: {frozen_grm: 0}}", "'arms' must give"),
        ("r: {bases: [b1], arms: {frozen_grm: 1}, settings: 3}", "'settings' must be keys and values, found 3"),
        ("r: {bases: [b1], arms: {frozen_grm: 1}, variants: {a: 3}}", "'variants' must give"),
        ("r: {bases: [b1], arms: {frozen_grm: 1}, over: 3}", "'over' must be a config's path .* found 3"),
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


def test_arm_whose_runs_have_another_name_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(jobs, "ARMS", tmp_path / "configs" / "arms")
    (tmp_path / "configs" / "arms").mkdir(parents=True)
    (tmp_path / "configs" / "arms" / "mine.yaml").write_text("arm: other\n")
    with pytest.raises(InputError, match=r"mine\.yaml: key 'arm' is 'other'; its runs are named 'other', not 'mine'"):
        jobs.config_of("b1", "mine", 0, {})


def test_missing_base_is_told_before_the_first_run(arms, commands):
    job = dataclasses.replace(jobs_of(arms)[0], base="b3")
    with pytest.raises(InputError, match=r"base 'b3': neither in .* `make population` rebuilds the tiny bases"):
        run([jobs_of(arms)[0], job])
    assert not commands


def test_missing_file_is_told_before_the_first_run(arms, commands):
    first, second = jobs_of(arms)[:2]
    job = dataclasses.replace(second, settings={"questions": "build/real/none.jsonl"})
    told = r"key 'questions': build/real/none.jsonl: no such file; `make real PEOPLE=FOLDER` makes those"
    with pytest.raises(InputError, match=told):
        run([first, job])
    assert not commands


def test_shipped_base_is_taken_where_there_is_one(bases, tmp_path):
    assert jobs.base_folder("b1") == "build/bases/b1"
    (tmp_path / "root" / jobs.SHIPPED / "b1").mkdir(parents=True)
    assert jobs.base_folder("b1") == "asl_min/world/tiny/bases/b1"


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
    with pytest.raises(InputError, match=r"b1_rule_reward_seed0\.json: not the summary of a run"):
        job.is_finished()


@pytest.fixture
def commands(monkeypatch):
    """In the place of a run: a process that writes a summary (or ends with code 3 for frozen_grm). Returns the runs
    started."""
    started = []

    def command(job):
        started.append(job.run.name)
        summary = {"arm": job.arm, "seed": job.seed, "config": dataclasses.asdict(job.config())}
        summary |= {"rounds": [{"accuracy": {"mean": 0.123456789, "interval": [0.1, 0.2]}}]}
        code = f"import pathlib; p = pathlib.Path({str(job.run)!r}); p.mkdir()"
        code += f"; (p / 'summary.json').write_text({json.dumps(summary)!r})"
        return [sys.executable, "-c", "raise SystemExit(3)" if job.arm == "frozen_grm" else code]

    monkeypatch.setattr(runner.Job, "command", command)
    return started


def test_finished_runs_are_skipped_and_failed_ones_tried_again(arms, commands):
    chosen = [job for job in jobs_of(arms) if job.base == "b1"]
    assert list(run(chosen).values()) == ["finished", "failed (3)", "finished"]
    kept = json.loads((arms.parent / "results" / "small" / "runs" / "b1_rule_reward_seed1.json").read_text())
    assert kept["config"]["seed"] == 1 and kept["rounds"][0]["accuracy"] == {"mean": 0.12346}
    assert "preregistered" not in kept
    assert sorted(commands) == ["small_b1_frozen_grm_seed0", "small_b1_rule_reward_seed0", "small_b1_rule_reward_seed1"]
    run(chosen)
    assert commands[3:] == ["small_b1_frozen_grm_seed0"]


def test_run_of_the_preregistration_notes_its_digest(arms, commands):
    job = dataclasses.replace(jobs_of(arms)[0], preregistered="abc")
    run([job])
    assert json.loads(job.result.read_text())["preregistered"] == "abc" and job.is_finished()


def test_runs_are_kept_beside_where_the_command_is_given(arms, commands, monkeypatch, script):
    monkeypatch.chdir(arms.parent)
    profile = {"one": {"bases": ["b2"], "arms": {"rule_reward": 1}}}
    arms.write_text(yaml.safe_dump(profile))
    assert script("reproduce.runner", "--profile", "one", "--arms", arms) == 0
    assert commands == ["one_b2_rule_reward_seed0"]
    assert (arms.parent / "runs" / "results" / "one" / "runs" / "b2_rule_reward_seed0.json").is_file()


def test_sigterm_ends_the_runs_too(arms, monkeypatch, script):
    before, own = signal.getsignal(signal.SIGTERM), os.getpid()
    code = f"import os, signal, time; os.kill({own}, signal.SIGTERM); time.sleep(60)"
    processes = []

    def popen(*words, **more):
        processes.append(started(*words, **more))
        return processes[-1]

    started = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(runner.Job, "command", lambda job: [sys.executable, "-c", code])
    folders = ("--runs", arms.parent / "runs", "--results", arms.parent / "results")
    try:
        ended = script("reproduce.runner", "--profile", "small", "--arms", arms, "--jobs", 1, *folders)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended == 143 and [process.poll() for process in processes] == [-signal.SIGTERM]


def test_kept_summary_of_other_settings_is_refused(arms, commands):
    run(jobs_of(arms)[:1])
    arms.write_text(arms.read_text().replace("rounds: 1", "rounds: 2"))
    with pytest.raises(InputError, match="rounds = 1, now 2"):
        run(jobs_of(arms)[:1])


def test_kept_summary_counts_wherever_its_base_lay(arms, commands, tmp_path):
    job = jobs_of(arms)[0]
    run([job])
    (tmp_path / "root" / jobs.SHIPPED / "b1").mkdir(parents=True)
    assert job.config().base_model.startswith(jobs.SHIPPED) and job.is_finished()


def test_kept_summary_of_a_base_with_other_weights_is_refused(arms, commands, tmp_path, base):
    job = jobs_of(arms)[0]
    run([job])
    assert json.loads(job.result.read_text())["base_weights"] == durable.digest(base / jobs.WEIGHTS)
    (tmp_path / "root" / jobs.RECORDED / "b1").mkdir(parents=True)
    (tmp_path / "root" / jobs.RECORDED / "b1" / jobs.WEIGHTS).write_bytes(b"trained again")
    with pytest.raises(InputError, match=r"of a base b1 with weights .*; move it away"):
        job.is_finished()


def test_interrupted_run_goes_on_after_its_last_phase(arms, base, monkeypatch):
    """A real run in its own process, whose first phase was done before."""
    monkeypatch.setattr(jobs, "base_folder", lambda name: str(base))
    job = jobs_of(arms)[0]
    prepare(job.run, job.config())
    started = run_dir.started(job.run)
    train_prompt_generator.run_phase(job.run, 1)
    mark = run_dir.phase_dir(job.run, 1, "prompt_generator") / "done.json"
    before = mark.stat().st_mtime_ns
    assert run([job]) == {job: "finished"}, job.run.with_name(job.run.name + ".log").read_text()[-2000:]
    assert mark.stat().st_mtime_ns == before
    kept = json.loads(job.result.read_text())
    assert [row["round"] for row in kept["rounds"]] == [0, 1] and len(job.result.read_bytes()) < 8_000
    assert kept["started"] == started and job.is_finished()
