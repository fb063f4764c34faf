"""What runs have in common is computed once, and is what each would compute by itself."""

import dataclasses
import json
from unittest.mock import Mock

import pytest

from asl_min import evaluate
from asl_min.rounds import run_rounds
from asl_min.run import run_dir
from asl_min.run.inputs import prepare
from reproduce import jobs, reuse
from reproduce.jobs import Job


@pytest.fixture
def job(tmp_path, config, base, monkeypatch):
    """Makes the job of an arm at the sizes of the small config, two rounds."""
    monkeypatch.setattr(jobs, "base_folder", lambda name: str(base))
    leave = {"seed", "base_model", "recipe"}
    small = {k: v for k, v in dataclasses.asdict(config).items() if v != getattr(type(config)(), k) and k not in leave}

    def make(arm, seed=0, **settings):
        name = f"b1_{arm}_seed{seed}" + "".join(settings)
        return Job("b1", arm, seed, small | {"rounds": 2} | settings, tmp_path / name, tmp_path / f"{name}.json")

    return make


def computed(job):
    """Run the job; the checksums of its phases' files."""
    prepare(job.run, job.config())
    run_rounds(job.run)
    phases = sorted(job.run.glob("round_*/*/done.json"))
    return {
        str(done.parent.relative_to(job.run)): run_dir.facts(job.run, int(done.parts[-3][-2:]), done.parts[-2])["files"]
        for done in phases
    }


def without_times(files):
    """metrics.jsonl holds seconds."""
    return {
        phase: {name: digest for name, digest in own.items() if name != "metrics.jsonl"} for phase, own in files.items()
    }


@pytest.mark.parametrize(
    ("arm", "own"),
    [("inject_late", {"inject_round": 2}), ("oracle_late", {"oracle_from_round": 2}), ("absolute_zero", {})],
)
def test_what_is_copied_is_what_the_run_would_compute(job, arm, own):
    parent, alone = job("asl_gen_rm"), job(arm, **own)
    expected = computed(alone)
    computed(parent)
    copied = dataclasses.replace(alone, run=alone.run.with_name("copied"))
    rounds = 1 if own else 0
    assert reuse.take_over(copied, [parent]) == rounds
    kept = {done: done.stat().st_mtime_ns for done in copied.run.glob("round_*/*/done.json")}
    assert len(kept) == 1 + 4 * rounds
    assert without_times(computed(copied)) == without_times(expected)
    assert all(done.stat().st_mtime_ns == before for done, before in kept.items())
    assert run_dir.started(copied.run) >= run_dir.started(parent.run)


def test_judge_that_learnt_nothing_is_measured_once(changed, tmp_path, monkeypatch):
    config = changed(adapters="per_role", frozen=["reward_model"], rounds=1)
    measured = []
    for name in ("once", "anew"):
        (run := tmp_path / name).mkdir()
        prepare(run, config)
        count = Mock(side_effect=evaluate.judge_accuracy)
        with monkeypatch.context() as patched:
            patched.setattr(evaluate, "judge_accuracy", count)
            if name == "anew":
                patched.setattr(evaluate, "judged_before", lambda *_: None)
            run_rounds(run)
        measured.append(count.call_count)
    assert measured == [1, 2]
    files = [tmp_path / name / "round_01" / "evaluation" / "grm.jsonl" for name in ("once", "anew")]
    assert files[0].read_bytes() == files[1].read_bytes()
    results = [json.loads((file.parent / "results.json").read_text())["grm"] for file in files]
    assert results[0] == results[1] and results[0]["by_kind"]


def test_judge_that_learnt_is_measured_again(changed, tmp_path):
    config = changed(adapters="per_role", frozen=["reward_model"], rounds=1)
    prepare(tmp_path, config)
    run_rounds(tmp_path)
    assert evaluate.judged_before(tmp_path, 1, config)
    assert evaluate.judged_before(tmp_path, 0, config) is None
    assert evaluate.judged_before(tmp_path, 1, changed(adapters="shared", rounds=1)) is None
    results = tmp_path / "round_00" / "evaluation" / "results.json"
    whole = results.read_text()
    results.write_text(whole[:9])  # damaged: measured again
    assert evaluate.judged_before(tmp_path, 1, config) is None
    results.write_text(whole)
    assert evaluate.judged_before(tmp_path, 1, config)
    done = tmp_path / "round_01" / "reward_model" / "done.json"
    done.write_text(json.dumps(json.loads(done.read_text()) | {"optimizer_steps": 1}))
    assert evaluate.judged_before(tmp_path, 1, config) is None


def test_shared_rounds_of_arms(job):
    def shared(one, other):
        return reuse.shared_rounds(one.config(), other.config())

    gen_rm = job("asl_gen_rm")
    assert shared(job("oracle_late"), gen_rm) == shared(gen_rm, job("inject_late")) == 2
    assert shared(job("oracle_late"), job("inject_late", inject_round=2)) == 1
    assert {shared(gen_rm, job(arm)) for arm in ("frozen_grm", "asl_hybrid", "absolute_zero", "data_12")} == {0}
    assert shared(gen_rm, job("asl_gen_rm", learning_rate=1e-2)) == 0
    assert shared(gen_rm, job("asl_gen_rm", seed=1)) is None
    assert shared(gen_rm, job("asl_gen_rm", eval_tasks=3)) is None
    assert shared(gen_rm, job("asl_gen_rm", rounds=3)) == 0


def test_nothing_is_copied_into_a_run_that_has_begun_or_from_one_that_has_not(job):
    parent, other = job("asl_gen_rm"), job("frozen_pg")
    prepare(parent.run, parent.config())
    assert reuse.take_over(other, [parent, other]) is None and not other.run.exists()
    run_dir.begin(parent.run, 0, "evaluation")
    assert reuse.take_over(other, [parent]) is None
    run_dir.finish(run_dir.phase_dir(parent.run, 0, "evaluation"), {})
    run_dir.begin(other.run, 0, "evaluation")
    assert reuse.take_over(other, [parent]) is None
    assert reuse.take_over(job("absolute_zero"), [parent, other]) == 0
