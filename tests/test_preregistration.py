"""The preregistration: what is refused in the file, which runs it names, and the check that must fail when it must."""

import json
import os
import subprocess
from dataclasses import asdict

import pytest
import yaml
from helpers import ROOT
from made_up import design_values, gains, summary, write_design, write_results

from asl_min.run.errors import InputError
from reproduce import designs, jobs, preregistration
from reproduce.records import name_of, read_bases, read_summaries

COMMITTED = "2026-01-01T00:00:00+00:00"
"""The made-up runs start a day later."""


@pytest.fixture
def repo(tmp_path):
    """A git repository with a committed preregistration and results of all its runs but one."""
    design = write_design(tmp_path / "p.yaml")
    seeds = [gains("rule_reward", [5] * 6, seed) for seed in range(2)]
    runs = [*seeds[0], *seeds[1], *gains("frozen_grm", [3] * 5)]
    write_results(tmp_path / "results", [run | {"config": asdict(design.config(name_of(run)))} for run in runs])
    git(tmp_path, "init", "-q")
    commit(tmp_path, COMMITTED)
    return tmp_path


def git(folder, *words, **environment):
    names = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    subprocess.run(["git", *words], cwd=folder, check=True, env=os.environ | names | environment)


def commit(folder, date):
    git(folder, "add", "p.yaml")
    git(folder, "commit", "-q", "-m", "what is fixed", GIT_AUTHOR_DATE=date, GIT_COMMITTER_DATE=date)


def rewrite(folder, name, **values):
    file = folder / "results" / "runs" / f"{name}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture
def check(script, capsys):
    def run(folder):
        code = script("reproduce.preregistration", "--file", folder / "p.yaml", "--results", folder / "results")
        return code, capsys.readouterr().out

    return run


def test_runs_that_are_younger_and_as_demanded_pass(repo, check):
    code, said = check(repo)
    assert code == 0 and "runs: 17 of 18 named ones, 0 exploratory" in said and "WRONG" not in said
    assert "missing: b06_frozen_grm_seed0" in said


def test_run_older_than_the_last_commit_of_the_file_fails(repo, check):
    rewrite(repo, "b03_rule_reward_seed1", started="2025-12-31T23:59:59+00:00")
    code, said = check(repo)
    assert code == 1 and "WRONG: b03_rule_reward_seed1: started 2025-12-31" in said and said.count("WRONG") == 1


def test_file_committed_anew_after_the_runs_fails(repo, check):
    (repo / "p.yaml").write_text((repo / "p.yaml").read_text() + "# an afterthought\n")
    code, said = check(repo)
    assert code == 1 and "p.yaml has changes that are not committed" in said
    commit(repo, "2026-01-03T00:00:00+00:00")
    code, said = check(repo)
    assert code == 1 and said.count("WRONG") == 17


def test_commit_that_leaves_the_file_alone_does_not_matter(repo, check):
    git(repo, "commit", "-q", "--allow-empty", "-m", "later", GIT_COMMITTER_DATE="2026-02-01T00:00:00+00:00")
    assert check(repo)[0] == 0


@pytest.mark.parametrize("started", [None, "yesterday", "2026-01-02"])
def test_run_that_does_not_say_when_it_started_fails(started, repo, check):
    rewrite(repo, "b01_frozen_grm_seed0", started=started)
    code, said = check(repo)
    assert code == 1 and "WRONG: b01_frozen_grm_seed0: does not say when it started" in said


def test_run_with_other_settings_fails(repo, check):
    config = json.loads((repo / "results" / "runs" / "b02_rule_reward_seed0.json").read_text())["config"]
    rewrite(repo, "b02_rule_reward_seed0", config=config | {"learning_rate": 0.1})
    code, said = check(repo)
    assert code == 1 and "WRONG: b02_rule_reward_seed0: learning_rate = 0.1, the file demands 0.001" in said


def test_runs_of_a_base_that_was_trained_again_in_between_fail(repo, check, monkeypatch, tmp_path):
    monkeypatch.setattr(jobs, "ROOT", tmp_path)  # where the base is not
    rewrite(repo, "b03_rule_reward_seed0", base_weights="1" * 64)
    assert check(repo)[0] == 0  # the others do not say
    rewrite(repo, "b03_rule_reward_seed1", base_weights="2" * 64)
    code, said = check(repo)
    assert "WRONG: b03: its runs and measures are of 2 different weights" in said
    assert code == 1 and said.count("WRONG") == 1


def test_measures_of_a_base_that_was_trained_again_since_fail(repo, check, monkeypatch, tmp_path):
    monkeypatch.setattr(jobs, "ROOT", tmp_path)
    rewrite(repo, "b03_rule_reward_seed0", base_weights="1" * 64)
    (repo / "results" / "bases").mkdir()
    measures = repo / "results" / "bases" / "b03.json"
    for weights, wrong in (("1" * 64, 0), ("2" * 64, 1)):
        measures.write_text(json.dumps({"base_weights": weights}))
        code, said = check(repo)
        assert code == wrong and said.count("WRONG: b03: its runs and measures are of 2") == wrong


def test_run_on_other_weights_than_the_base_of_that_name_fails(repo, check, monkeypatch, tmp_path):
    folder = tmp_path / jobs.RECORDED / "b03"
    folder.mkdir(parents=True)
    (folder / jobs.WEIGHTS).write_bytes(b"trained again")
    own = {name: summary for name, summary in read_summaries(repo / "results" / "runs").items() if name[0] == "b03"}
    monkeypatch.setattr(jobs, "ROOT", tmp_path)
    other, same = ({"base_weights": weights} for weights in ("1" * 64, jobs.weights_of("b03")))
    found = [jobs.other_weights(summary | weights, "b03") for summary in own.values() for weights in (other, same, {})]
    assert [bool(line) for line in found] == [True, False, False] * len(own)
    assert found[0].startswith("of a base b03 with weights 111111111111, those of reproduce/bases/b03 are ")


def test_run_that_is_not_named_is_exploratory_and_may_be_anything(repo, check):
    for run in (summary("b07", "rule_reward", 0, 0.3, 0.9), summary("b01", "r_zero", 0, 0.3, 0.9)):
        name = f"{run['config']['base_model'].rsplit('/', 1)[1]}_{run['arm']}_seed0"
        (repo / "results" / "runs" / f"{name}.json").write_text(json.dumps(run | {"started": "2020-01-01"}))
    code, said = check(repo)
    assert code == 0 and "exploratory: b01_r_zero_seed0, b07_rule_reward_seed0" in said


@pytest.mark.parametrize("history", ["none", "shallow"])
def test_without_history_the_digest_in_the_summary_counts(history, repo, tmp_path_factory, check):
    place = tmp_path_factory.mktemp("place") / "clone"
    if history == "shallow":
        git(repo, "add", "results")
        git(repo, "commit", "-q", "-m", "results")
        subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{repo}", str(place)], check=True)
    else:
        (repo / ".git").rename(repo / "gone")
        repo.rename(place)
    code, said = check(place)
    assert code == 1 and said.count("does not hold the digest of the file") == 17
    for file in (place / "results" / "runs").iterdir():
        rewrite(place, file.stem, preregistered=designs.digest(place / "p.yaml"))
    assert check(place)[0] == 0
    rewrite(place, "b01_frozen_grm_seed0", preregistered="0" * 64)
    assert check(place)[0] == 1


def test_file_that_was_never_committed_has_no_history(tmp_path):
    write_design(tmp_path / "p.yaml")
    git(tmp_path, "init", "-q")
    assert preregistration.last_commit(tmp_path / "p.yaml") is None


def test_claims_are_selected_from_the_named_runs_alone(tmp_path):
    design = write_design(tmp_path / "p.yaml")
    write_results(tmp_path, [*gains("rule_reward", [5] * 8), *gains("rule_reward", [5], seed=2), *gains("r_zero", [1])])
    found = designs.select(design, read_summaries(tmp_path / "runs"))
    assert list(found.named) == [(f"b{n:02}", "rule_reward", 0) for n in range(1, 7)]
    assert len(found.missing) == 12 and found.missing[0] == ("b01", "frozen_grm", 0)
    wanted = {("b01", "r_zero", 0), ("b01", "rule_reward", 2), ("b07", "rule_reward", 0), ("b08", "rule_reward", 0)}
    assert set(found.exploratory) == wanted


def test_seed_0_of_all_arms_and_bases_comes_first(tmp_path):
    names = write_design(tmp_path / "p.yaml").names()
    assert names[:7] == [*((f"b{n:02}", "rule_reward", 0) for n in range(1, 7)), ("b01", "frozen_grm", 0)]
    assert names[12:] == [(f"b{n:02}", "rule_reward", 1) for n in range(1, 7)]


def test_claims_are_asked_of_the_primary_mode_and_of_those_named(tmp_path):
    design = write_design(tmp_path / "p.yaml")
    assert [(c.id, c.parts[0].arms[0], c.parts[0].less) for c in design.asked(primary=True)] == [
        ("C3", "rule_reward", ()),
        ("C6", "rule_reward", ("frozen_grm",)),
    ]
    assert [(c.id, c.parts[0].arms) for c in design.asked(primary=False)] == [("C3.other", ("r_zero",))]


PART = {"measure": "gain", "arms": ["asl"]}
BAD = {
    "not YAML": ("[", "not YAML"),
    "a list": ("[1]", "expected keys and values"),
    "no bases": ({"bases": {"drawn": "x", "names": []}}, "'bases.names' is"),
    "no seeds": ({"arms": {"rule_reward": 0}}, "'arms.rule_reward' is 0"),
    "unknown key": ({"seeds": 3}, "'seeds' is 3"),
    "unknown measure": (
        {"claims": [{"id": "C1", "claim": "x", "parts": [PART | {"measure": "luck"}]}]},
        "measure 'luck': there are",
    ),
    "measure not explained": (
        {"claims": [{"id": "C1", "claim": "x", "parts": [PART | {"measure": "slope"}]}]},
        "claim C1: measures do not say what 'slope' is",
    ),
    "two arms for one": (
        {"claims": [{"id": "C1", "claim": "x", "parts": [PART | {"arms": ["asl", "r_zero"]}]}]},
        "measure 'gain' takes one",
    ),
    "unknown mode": ({"claims": [{"id": "C1", "claim": "x", "parts": [PART], "also": ["z"]}]}, "no mode 'z'"),
    "no primary mode": ({"modes": {"other": "r_zero"}}, "lack 'primary'"),
    "twice": ({"claims": [{"id": "C1", "claim": "x", "parts": [PART]}] * 2}, "two have the same id"),
    "no file": (None, "no such file"),
}


@pytest.mark.parametrize(("values", "said"), BAD.values(), ids=BAD)
def test_bad_file_is_refused_in_one_line(values, said, tmp_path, script, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if values is not None:
        text = values if isinstance(values, str) else yaml.safe_dump(design_values(**values))
        (tmp_path / "p.yaml").write_text(text)
    assert script("reproduce.preregistration", "--file", "p.yaml", "--results", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: p.yaml: ") and said in error and error.count("\n") == 1


def test_unknown_setting_is_refused(tmp_path):
    design = write_design(tmp_path / "p.yaml", settings={"raunds": 3})
    with pytest.raises(InputError, match="unknown key 'raunds'"):
        design.config(("b01", "rule_reward", 0))


def test_config_is_that_of_the_arm_on_the_base_with_the_settings_of_all(tmp_path):
    design = write_design(tmp_path / "p.yaml", settings={"eval_tasks": 7}, budget={"rounds": 3})
    config = design.config(("b09", "frozen_grm", 5))
    assert (config.name, config.seed, config.rounds, config.eval_tasks) == ("frozen_grm", 5, 3, 7)
    assert config.base_model == jobs.base_folder("b09")


def test_shipped_file_names_enough_and_arms_that_exist():
    design = designs.read()
    assert len(design.bases.names) >= 12 and all(design.arms[arm] >= 2 for arm in design.headline)
    for arm in design.arms:
        assert design.config(("b01", arm, 0)).name == arm
    arms = {arm for c in design.asked(True) for part in c.parts for arm in (*part.arms, *part.less)}
    assert arms <= design.arms.keys()


def test_recorded_runs_keep_to_the_shipped_file():
    folder = ROOT / "reproduce" / "results"
    found = read_summaries(folder / "runs") if any((folder / "runs").glob("*.json")) else {}
    named = designs.select(designs.read(), found).named
    assert preregistration.problems(designs.FILE, named, read_bases(folder / "bases")) == [] or not named
