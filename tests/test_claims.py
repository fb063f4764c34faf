"""Statistics, verdicts, tables and figures on made-up summaries with known answers, and with arms missing."""

import json

import numpy as np
import pytest

from asl_min.tools.summary import BUDGET
from reproduce import claims, figures, tables
from reproduce import measures as m

ROLES = ("prompt_generator", "reward_model", "policy")


def entry(number: int, accuracy: float, **values) -> dict:
    """A round of a summary; shares are 0 to 1."""
    row = {
        "round": number,
        "accuracy": {"mean": accuracy},
        "grm": {"balanced_accuracy": 0.6 + 0.02 * number, "f1": 0.6, "consistency": 0.7},
        "pg_reward": None,
    }
    row |= (
        {"n_tasks": 100 * number}
        | {key: 0 if number == 0 or key == "gold_labels" else 1000 for key in BUDGET}
        | {"phase": None, "frozen": None, "trace": None}
    )
    if number:
        row["phase"] = {
            "judge_reward": 0.6,
            "true_accuracy": 0.6,
            "drafts": {"answerable": 0.9},
            "kept": {"answerable": 0.95, "right": 0.9},
        }
        row["frozen"] = {"accuracy": 0.7 - 0.1 * number}
        shares = dict.fromkeys(ROLES, 1.0)
        row["trace"] = {
            "tool_use": shares,
            "tool_same": shares,
            "rewards_explained": shares,
            "lineage": {"tasks": 1.0, "drafts": None},
        }
    return row | values


def summary(arm: str, seed: int, *accuracies: float, config: dict | None = None, **values) -> dict:
    settings = {"policy_tasks": 0, "policy_prompts": 16, "policy_max_steps": 6, "learning_rate": 3e-4} | (config or {})
    settings |= {"recipe": "asl", "arm": arm}
    return {
        "arm": arm,
        "recipe": "asl",
        "seed": seed,
        "config": settings,
        "rounds": [entry(i, a, **(values if i else {})) for i, a in enumerate(accuracies)],
    }


def runs_of(*summaries: dict) -> m.Runs:
    runs: m.Runs = {}
    for found in summaries:
        runs.setdefault(found["arm"], {})[found["seed"]] = found
    return runs


def concluded(runs: m.Runs) -> dict[str, dict]:
    return {claim.id: claims.conclude(claim, runs) for claim in claims.CLAIMS}


def test_interval_by_hand():
    # mean 4, standard deviation 2, t(0.975, 2) = 4.3027: half width 4.3027 * 2 / sqrt 3
    mean, low, high = m.interval([2, 4, 6])
    assert (mean, high - mean, mean - low) == pytest.approx((4, 4.9683, 4.9683), abs=1e-4)
    assert m.interval([5]) == (5, -np.inf, np.inf)


def test_slope_leaves_out_what_was_not_measured():
    assert m.slope(np.array([np.nan, 3.0, 5.0, 7.0])) == pytest.approx(2.0)
    assert np.isnan(m.slope(np.array([np.nan, 1.0])))


def test_mean_over_is_the_area_under_the_accuracy_curve():
    run = summary("asl", 0, 0.2, 0.4, 0.6)
    assert m.mean_over(run, "episodes", 2000) == pytest.approx(40.0)
    assert m.mean_over(run, "episodes", 1000) == pytest.approx(30.0)


def test_nothing_was_run_without_runs():
    assert {row["verdict"] for row in concluded({}).values()} == {"not run"}


def test_claims_on_one_arm_and_its_seeds():
    found = concluded(
        runs_of(*(summary("asl", seed, 0.30, 0.50 + 0.01 * seed, 0.70 + 0.01 * seed) for seed in range(3)))
    )
    assert (found["C3"]["verdict"], found["C3"]["n_seeds"]) == ("holds", 3)
    assert found["C3"]["effect"] == pytest.approx(41.0) and found["C8"]["effect"] == pytest.approx(20.5)
    # gains 40, 41, 42: standard deviation 1, half width 4.3027 / sqrt 3
    assert (found["C3"]["ci_low"], found["C3"]["ci_high"]) == pytest.approx((41 - 2.4841, 41 + 2.4841), abs=1e-3)
    assert found["C2"]["effect"] == pytest.approx(10.0) and found["C2"]["verdict"] == "holds"
    assert found["C4"]["verdict"] == "undecided"  # more accurate, but consistency and F1 stand still
    assert [found[id]["verdict"] for id in ("C1", "C10", "C16")] == ["holds"] * 3
    assert [found[id]["verdict"] for id in ("C5", "C6", "C7", "C9", "C11", "C12", "C13", "C14", "C15")] == [
        "not run"
    ] * 9


def test_one_seed_decides_nothing():
    found = concluded(runs_of(summary("asl", 0, 0.3, 0.9)))
    assert found["C3"]["verdict"] == "undecided" and found["C3"]["ci_low"] is None


def test_arms_are_paired_by_seed():
    asl = [summary("asl", seed, 0.3, level) for seed, level in enumerate([0.50, 0.70, 0.90])]
    other = [summary("frozen_grm", seed, 0.3, level) for seed, level in enumerate([0.45, 0.64, 0.86])]
    row = concluded(runs_of(*asl, *other))["C6"]  # differences 5, 6, 4, though each arm spreads over 40 points
    assert row["effect"] == pytest.approx(5.0) and row["verdict"] == "holds"
    row = concluded(runs_of(*asl, *other[1:]))["C6"]
    assert row["effect"] == pytest.approx(5.0) and row["n_seeds"] == 2


def test_what_is_only_shown_decides_nothing():
    level = {"asl": 0.8, "absolute_zero": 0.6, "r_zero": 0.3, "search_r1_16": 0.7, "search_r1_64": 0.9}
    row = concluded(
        runs_of(*(summary(arm, seed, 0.3, end + 0.001 * seed) for arm, end in level.items() for seed in range(3)))
    )["C9"]
    assert row["verdict"] == "holds" and [part["verdict"] for part in row["shown"]] == [
        "not run",
        "not run",
        "holds",
        "does not hold",
    ]
    assert "(shown only: does not hold)" in tables.claims_table([row])


def test_effect_the_other_way_does_not_hold():
    asl = [summary("asl", seed, 0.3, 0.5 + 0.01 * seed) for seed in range(3)]
    rule = [summary("rule_reward", seed, 0.3, 0.6 + 0.011 * seed) for seed in range(3)]
    assert concluded(runs_of(*asl, *rule))["C5"]["verdict"] == "does not hold"


def test_data_scale_is_a_slope_per_doubling():
    levels = {
        "data_4": (4, 0.40),
        "data_12": (12, 0.40 + 0.02 * np.log2(3)),
        "data_36": (36, 0.40 + 0.02 * np.log2(9)),
        "asl": (0, 0.40 + 0.02 * np.log2(24)),
    }
    found = runs_of(
        *(
            summary(arm, seed, 0.3, level, config={"policy_tasks": n})
            for arm, (n, level) in levels.items()
            for seed in range(3)
        )
    )
    assert concluded(found)["C7"]["effect"] == pytest.approx(2.0) and concluded(found)["C7"]["verdict"] == "holds"


def frozen(seed: int, true_accuracy: float, last: float = 0.32) -> dict:
    """A run whose PG is paid more and more for tasks that cannot be solved, while the judge pays 0.6 and a bit."""
    run = summary("frozen_grm", seed, 0.3, 0.3, 0.3, last)
    for row in run["rounds"][1:]:
        drift = (0.1 + 0.01 * seed) * row["round"]
        row["phase"] |= {
            "judge_reward": 0.6 + 0.01 * seed,
            "true_accuracy": true_accuracy,
            "kept": {"answerable": 0.9, "right": 1 - drift},
        }
        row["pg_reward"] = drift
    return run


@pytest.mark.parametrize(
    ("true_accuracy", "last", "verdicts"),
    [
        (0.4, 0.32, ["holds"] * 4),
        (0.7, 0.32, ["holds", "holds", "does not hold", "holds"]),  # the judge pays less than is true
        (0.4, 0.52, ["holds", "holds", "holds", "does not hold"]),  # the policy becomes better all the same
    ],
)
def test_hacking_needs_all_of_its_parts(true_accuracy, last, verdicts):
    row = concluded(runs_of(*(frozen(seed, true_accuracy, last + 0.001 * seed) for seed in range(3))))["C12"]
    assert [row["first_verdict"], *(part["verdict"] for part in row["also"])] == verdicts
    assert row["verdict"] == max(verdicts, key="does not hold".__eq__)


def test_what_rises_after_a_round_needs_a_later_round():
    assert np.isnan(m.rise(summary("asl", 0, 0.3, 0.4), "accuracy", "mean", since=1))
    assert m.rise(summary("asl", 0, 0.3, 0.4, 0.6), "accuracy", "mean", since=1) == pytest.approx(20)


def test_last_two_rounds_are_averaged_without_what_was_not_measured():
    run = summary("asl", 0, 0.3, 0.4, 0.5, 0.6)
    for row, right in zip(run["rounds"][1:], (0.9, 0.5, 0.7), strict=True):
        row["phase"]["kept"]["right"] = right
    assert m.late(run, *m.SOUND) == pytest.approx(60)
    run["rounds"][3]["phase"]["kept"]["right"] = None
    assert m.late(run, *m.SOUND) == pytest.approx(50)


def test_gold_label_or_untraced_row_fails_the_audits():
    shares = dict.fromkeys(ROLES, 1.0)
    leak = {
        "tool_use": shares,
        "tool_same": shares,
        "rewards_explained": shares | {"policy": 0.98},
        "lineage": {"tasks": 0.5},
    }
    found = concluded(
        runs_of(*(summary("asl", seed, 0.3, 0.5 + 0.01 * seed, gold_labels=3, trace=leak) for seed in range(2)))
    )
    assert [found[id]["verdict"] for id in ("C1", "C10", "C16")] == ["does not hold"] * 3
    assert (found["C1"]["effect"], found["C16"]["effect"]) == (0.5, 0.98)


def test_role_that_never_searched_fails_the_audit_of_the_shared_tool():
    run = summary("asl", 0, 0.3, 0.5)
    run["rounds"][1]["trace"]["tool_use"] = dict.fromkeys(ROLES, 1.0) | {"policy": 0.0}
    assert concluded(runs_of(run))["C1"]["effect"] == 0.0


ARMS = (
    "asl",
    "frozen_grm",
    "rule_reward",
    "search_r1_16",
    "search_r1_64",
    "absolute_zero",
    "r_zero",
    "inject_late",
    "oracle_grm_late",
)


@pytest.fixture
def results(tmp_path):
    """A results folder with two seeds of most arms, the sizes of the data sweep missing but one, and one learning
    rate."""
    for name in ("runs", "lr"):
        (tmp_path / name).mkdir()
    for arm in (*ARMS, "data_4"):
        for seed in range(2):
            run = summary(arm, seed, 0.3, 0.5, 0.6 + 0.01 * seed, config={"policy_tasks": 4} if arm == "data_4" else {})
            for row in run["rounds"][1:]:
                row["gold_labels"] = int(arm.split("_")[-1]) if arm.startswith("search") else 0
            (tmp_path / "runs" / f"{arm}_seed{seed}.json").write_text(json.dumps(run))
    (tmp_path / "lr" / "asl_seed0_lr0.0006.json").write_text(
        json.dumps(summary("asl", 0, 0.3, 0.77, config={"learning_rate": 6e-4}))
    )
    return tmp_path


def test_claims_and_tables_are_written(results, script):
    script("reproduce.claims", "--results", results)
    rows = json.loads((results / "claims.json").read_text())
    assert [row["id"] for row in rows] == [f"C{i}" for i in range(1, 17)]
    needed = {
        "id",
        "claim",
        "arms",
        "metric",
        "effect",
        "ci_low",
        "ci_high",
        "n_seeds",
        "threshold",
        "verdict",
        "command",
    }
    assert all(needed <= set(row) for row in rows)
    text = (results / "RESULTS.md").read_text()
    assert all(f"| {arm} |" in text for arm in ARMS)
    assert "| 64 | 60.5 ± 6.4 | 0.0 ± 0.0 |" in text and "| asl | 77.0 |" in text


def test_own_claims_are_shown_beside_the_record():
    rows = [claims.conclude(claim, runs_of(summary("asl", 0, 0.3, 0.5, 0.7))) for claim in claims.CLAIMS]
    lines = tables.beside_record(
        rows, [row | {"effect": 9.0, "ci_low": 8.0, "ci_high": 10.0, "n_seeds": 3} for row in rows if row["id"] != "C5"]
    ).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("C3"))
    assert [line.split() for line in lines[at + 1 : at + 3]] == [
        ["here:", "undecided", "+40.0", "seeds:", "1"],
        ["recorded:", "undecided", "+9.0", "(+8.0", "to", "+10.0)", "seeds:", "3"],
    ]
    assert len(lines) == 3 * 16 - 1  # C5, which the record lacks, stands alone


def test_what_is_committed_is_what_the_runs_files_give():
    runs = m.load_runs(m.RESULTS / "runs")
    rows = [claims.conclude(claim, runs) for claim in claims.CLAIMS]
    assert json.loads((m.RESULTS / "claims.json").read_text()) == rows
    assert (m.RESULTS / "RESULTS.md").read_text() == tables.results_text(runs, rows, m.RESULTS)
    assert claims.README.read_text() == tables.refresh(claims.README, tables.readme_blocks(runs))
    assert claims.RESULTS.read_text() == tables.refresh(claims.RESULTS, tables.results_blocks(runs, rows))


def test_only_the_named_blocks_of_a_page_are_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- end -->\nb\n<!-- y -->\nkept\n<!-- end -->\nc\n")
    assert (
        tables.refresh(page, {"x": "new"}) == "a\n<!-- x -->\nnew\n<!-- end -->\nb\n<!-- y -->\nkept\n<!-- end -->\nc\n"
    )


def test_tokens_to_an_accuracy_are_counted_between_rounds():
    run = summary("asl", 0, 0.3, 0.5, 0.4)
    assert tables.tokens_to(run, 30.0) == 0
    assert tables.tokens_to(run, 40.0) == pytest.approx(500, abs=2)
    assert np.isnan(tables.tokens_to(run, 60.0))


def test_seeds_stand_beside_one_another(results):
    runs = m.load_runs(results / "runs")
    assert "| 1 | 61.0 | 60 / 60 | +0.0 |" in tables.seeds_table(runs)
    del runs["frozen_grm"][1]
    assert tables.seeds_table(runs).splitlines()[-1] == "| 1 | 61.0 | 60 / 60 | +0.0 | - | - |"
    assert "held-out accuracy +30.5 ± 6.4" in tables.asl_sentence(runs)


BAD_RESULTS = {
    "no folder": (lambda runs: None, "no such folder"),
    "no runs": (lambda runs: runs.mkdir(), "holds no summary of a run"),
    "not JSON": (lambda runs: (runs.mkdir(), (runs / "a.json").write_text("{")), "a.json: not JSON"),
    "a list": (lambda runs: (runs.mkdir(), (runs / "a.json").write_text("[]")), "a.json: not the summary of a run"),
    "no rounds": (
        lambda runs: (runs.mkdir(), (runs / "a.json").write_text(json.dumps(summary("asl", 0) | {"rounds": 7}))),
        "a.json: 'rounds' must be a list",
    ),
}


@pytest.mark.parametrize(("make", "said"), BAD_RESULTS.values(), ids=BAD_RESULTS)
@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
@pytest.mark.parametrize("module", ["reproduce.claims", "reproduce.figures"])
def test_results_without_runs_are_refused_and_nothing_is_made(module, flags, make, said, tmp_path, script, capsys):
    make(tmp_path / "runs")
    before = sorted(tmp_path.rglob("*"))
    assert script(module, "--results", tmp_path, *flags) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and sorted(tmp_path.rglob("*")) == before


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


def test_figures_of_the_arms_that_were_run(results, script):
    script("reproduce.figures", "--results", results)
    drawn = {path.name for path in (results / "figures").iterdir()}
    assert drawn == {f"{name}.{ending}" for name in figures.FIGURES for ending in ("png", "svg")}


def test_figure_is_the_same_when_drawn_again(results, monkeypatch, script):
    monkeypatch.setattr(figures, "FIGURES", {"injection": figures.FIGURES["injection"]})
    found = []
    for _ in range(2):
        script("reproduce.figures", "--results", results)
        found.append((results / "figures" / "injection.svg").read_bytes())
    assert found[0] == found[1]


def test_spread_of_one_and_of_no_value():
    assert (tables.spread([50.0]), tables.spread([np.nan]), tables.spread([2, 4, 6])) == ("50.0", "-", "4.0 ± 5.0")
