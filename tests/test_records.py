"""What is kept of a run's summary, what is read again, and when a run began."""

import json

import pytest
from made_up import gains, summary, write_results

from asl_min.run import run_dir
from asl_min.run.errors import InputError
from asl_min.tools.summary import write_summary
from reproduce import records, verify


def test_compact_keeps_what_is_read_and_rounds():
    row = summary("b01", "asl", 0, 0.123456789)["rounds"][0]
    row |= {"pg": {"right": 0.5, "answerable": 0.9, "topics": {"n": 3}}, "sampled": {"pass@16": 1 / 3}}
    found = records.compact({"rounds": [row], "config": {"learning_rate": 0.00015}, "seed": 3})
    kept = found["rounds"][0]
    assert kept["accuracy"]["mean"] == 0.12346 and "interval" not in kept["accuracy"]
    assert kept["pg"] == {"right": 0.5, "answerable": 0.9} and kept["sampled"] == {"pass@16": 0.33333}
    assert kept["grm"]["by_kind"] == {"right": 0.7, "other fact": 0.6} and kept["rollouts"] == 0
    assert (found["config"], found["seed"]) == ({"learning_rate": 0.00015}, 3)
    assert records.compact(found) == found


def test_dumped_summary_is_read_as_it_was(tmp_path):
    run = summary("b01", "asl", 0, 0.3, 0.4)
    (tmp_path / "a.json").write_text(records.dump(run))
    assert json.loads((tmp_path / "a.json").read_text()) == run
    assert len(records.dump(run).splitlines()) == 2 + len(run) + 1 + len(run["rounds"])


def test_runs_are_told_apart_by_base_arm_and_seed(tmp_path):
    write_results(tmp_path, [*gains("asl", [1, 2]), *gains("asl", [3], seed=1), *gains("r_zero", [4])])
    found = records.read_summaries(tmp_path / "runs")
    assert set(found) == {("b01", "asl", 0), ("b01", "asl", 1), ("b02", "asl", 0), ("b01", "r_zero", 0)}
    runs = records.by_arm(found.values())
    assert [s["seed"] for s in runs["asl"]["b01"]] == [0, 1] and list(runs["asl"]) == ["b01", "b02"]


@pytest.mark.parametrize(("text", "said"), [("{", "not JSON"), ("[]", "expected an object")])
def test_measures_of_a_base_of_the_wrong_form_are_refused(text, said, tmp_path):
    assert records.read_bases(tmp_path / "none") == {}
    (tmp_path / "b01.json").write_text(text)
    with pytest.raises(InputError, match=rf"b01\.json: {said}"):
        records.read_bases(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "not the summary of a run"),
        ("{}", "not the summary of a run"),
        (None, "no such file"),
    ],
)
@pytest.mark.parametrize("module", ["reproduce.digest", "reproduce.verify"])
def test_file_that_is_no_summary_is_refused(module, text, said, tmp_path, script, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "s.json").write_text(text)
    before = sorted(tmp_path.rglob("*"))
    assert script(module, "s.json") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: s.json: {said}") and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_digest_of_a_run_is_that_of_its_record(tmp_path, script, capsys):
    run = summary("b01", "asl", 0, 1 / 3, 2 / 3)
    other = summary("b01", "asl", 0, 1 / 3, 2 / 3, seconds=7.0, tokens=6000)
    for name, found in {"run": run, "record": records.compact(run), "other": other}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    assert script("reproduce.digest", *(tmp_path / f"{name}.json" for name in ("run", "record", "other"))) == 0
    digests = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert digests[0] == digests[1] != digests[2]


def test_tolerance_is_pooled_over_the_bases_with_several_seeds():
    """Variances by base 2 and 8 points squared (seeds 2 and 4 apart): four times the root of their mean."""
    pairs = {"b01": (50, 52), "b02": (30, 34), "b03": (10,)}
    runs = {"asl": {b: [summary(b, "asl", n, 0.3, x / 100) for n, x in enumerate(xs)] for b, xs in pairs.items()}}
    runs["r_zero"] = {"b01": [summary("b01", "r_zero", 0, 0.3, 0.4)]}
    for arm in ("asl", "r_zero"):  # without second seeds of its own, those of all arms
        found = verify.tolerances(runs, arm)["mean"]
        assert found == pytest.approx([verify.LEAST, 4 * 5**0.5])
    with pytest.raises(InputError, match="come from bases with two seeds of r_zero"):
        verify.tolerances({"r_zero": runs["r_zero"]}, "r_zero")


def test_start_is_noted_until_a_round_has_begun_and_then_kept(config, tmp_path, monkeypatch):
    times = iter(["2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00", "2026-01-03T00:00:00+00:00"])

    class Clock:
        @staticmethod
        def now(zone):
            assert zone is run_dir.UTC
            return Clock

        @staticmethod
        def isoformat(timespec):
            return next(times)

    monkeypatch.setattr(run_dir, "datetime", Clock)
    run_dir.create(tmp_path, config)
    run_dir.create(tmp_path, config)
    assert run_dir.started(tmp_path) == "2026-01-02T00:00:00+00:00"
    run_dir.begin(tmp_path, 1, "policy")
    run_dir.create(tmp_path, config)
    assert write_summary(tmp_path)["started"] == "2026-01-02T00:00:00+00:00"
    (tmp_path / run_dir.STARTED).unlink()
    assert run_dir.started(tmp_path) is None and write_summary(tmp_path)["started"] is None
