"""Claims, audits, the phase diagram, tables and figures of made-up populations with known answers."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import ROLES, gains, measures_of, runs_of, summary, write_design, write_results

from asl_min.config import Config
from asl_min.evaluate import evaluate_agent
from asl_min.phase import Agent
from asl_min.run import run_dir
from reproduce import claims, figures, greedy, pages, phase_diagram, tables
from reproduce.audits import audit
from reproduce.designs import Part, Selection, listed
from reproduce.population import load
from reproduce.records import RESULTS
from reproduce.statistics import Estimate
from reproduce.verdicts import Finding

JUDGES = (0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
GAINED = (-10, -5.5, 0.5, 5, 10.5, 15)
"""Points by base: a line of 1 point a point of the judge that crosses 0 at 65%, and a bit."""


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A results folder of six bases: the primary arm gains with the judge, the frozen one 2 points less; one run that
    is not named."""
    design = write_design(tmp_path / "p.yaml")
    monkeypatch.setattr("reproduce.population.read", lambda: design)
    runs = [gains("rule_reward", GAINED, seed, rollouts=500) for seed in range(2)]
    runs += [gains("frozen_grm", [gain - 2 - 0.1 * n for n, gain in enumerate(GAINED)]), gains("r_zero", [4])]
    write_results(
        tmp_path / "results",
        [run for group in runs for run in group],
        lambda number: measures_of(JUDGES[number - 1], 0.5 + (number % 3) / 10, 0.3 + (number % 2) / 10),
    )
    return tmp_path / "results"


@pytest.fixture
def population(results):
    return load(results)


# --- claims and audits


def test_rows_say_effect_interval_bases_seeds_and_budget(population):
    rows = claims.claim_rows(population)
    assert [(row["id"], row["family"]) for row in rows] == [
        ("C3", "primary"),
        ("C6", "primary"),
        ("C3.other", "secondary"),
    ]
    gain, judge, other = rows
    assert gain["verdict"] == "depends" and gain["depends_on"]["moderator"] == "judge"
    assert gain["depends_on"]["from"] == pytest.approx(64.9, abs=0.1)  # at which the least-squares line crosses 0
    assert gain["effect"] == pytest.approx(np.mean(GAINED), abs=1e-3) and (gain["n_bases"], gain["n_seeds"]) == (6, 2)
    # differences 2, 2.1, … 2.5: mean 2.25, standard deviation 0.18708, t(0.975, 5) = 2.5706
    half = 2.5706 * 0.18708 / np.sqrt(6)
    assert judge["verdict"] == "holds" and judge["arms"] == ["rule_reward", "frozen_grm"] and judge["n_seeds"] == 1
    assert (judge["effect"], judge["ci_low"], judge["ci_high"]) == pytest.approx(
        (2.25, 2.25 - half, 2.25 + half), abs=1e-3
    )
    assert judge["holm_p"] == pytest.approx(2 * judge["parts"][0]["p"], rel=1e-3) and judge["budget"] == "1 round"
    assert (other["verdict"], other["effect"], other["n_bases"], other["holm_p"]) == ("not run", None, 0, None)


def test_audits_find_what_is_wrong_in_any_run(population):
    assert {row["passed"] for row in audit(population) if row["arm"] == "rule_reward"} == {True}
    assert {row["passed"] for row in audit(population) if row["arm"] == "r_zero"} == {None}
    round_1 = population.runs["rule_reward"]["b04"][1]["rounds"][1]
    round_1 |= {"gold_labels": 3}
    round_1["trace"] |= {"rewards_explained": dict.fromkeys(ROLES, 0.98), "lineage": {"tasks": 0.5, "drafts": None}}
    found = {row["id"]: (row["lowest"], row["passed"]) for row in audit(population) if row["arm"] == "rule_reward"}
    assert found == {"C1": (0.5, False), "C10": (0.0, False), "C16": (0.98, False)}


@pytest.mark.parametrize(("share", "lowest"), [(0.0, 0.0), (None, 1.0)])
def test_role_that_never_searched_fails_the_audit_of_the_shared_tool(share, lowest, population):
    """A role without an episode had nothing to search for."""
    population.runs["rule_reward"]["b01"][0]["rounds"][1]["trace"]["tool_use"]["policy"] = share
    assert next(row for row in audit(population) if row["id"] == "C1")["lowest"] == lowest


# --- phase diagram


def test_row_has_the_base_and_what_it_gained(population):
    rows = phase_diagram.diagram_rows(population)
    assert len(rows) == 12 and rows[0]["base"] == "b01" and rows[0]["arm"] == "rule_reward"
    assert (rows[0]["judge"], rows[0]["gain"], rows[0]["final"], rows[0]["seeds"]) == pytest.approx((55, -10, 20, 2))
    assert (rows[0]["pass@16"], rows[0]["majority of 16"], rows[0]["vote agreement"]) == pytest.approx((90, 50, 55))


def test_arm_lifts_itself_from_where_the_line_crosses_zero(population):
    found = phase_diagram.lift_offs(phase_diagram.diagram_rows(population), ["rule_reward", "nobody"])
    judge = next(row for row in found if row.axis == "judge")
    assert {row.arm for row in found} == {"rule_reward"} and judge.n == 6
    assert judge.at == pytest.approx(64.9, abs=0.1) and judge.low < 65 < judge.high < 67


def test_regression_finds_the_measure_that_matters(population):
    found = {row.measure: row for row in phase_diagram.slopes(phase_diagram.diagram_rows(population), ["rule_reward"])}
    deviation = 100 * np.std(JUDGES, ddof=1)  # of the judge, points: a point of gain each
    assert found["judge"].slope == pytest.approx(deviation, rel=0.05) and found["judge"].p < 0.01
    assert abs(found["writer"].slope) < 1 and found["writer"].low < 0 < found["writer"].high


def test_correlation_of_the_gain_with_a_measure_of_the_base(population):
    rows = phase_diagram.diagram_rows(population)
    found = phase_diagram.correlations(rows, ["rule_reward", "nobody"], ("judge", "pass@16"))
    assert found["rule_reward"][0] == pytest.approx(1, abs=0.01) and np.isnan(found["rule_reward"][1])
    assert np.isnan(found["nobody"]).all()


def test_what_predicts_best_has_the_least_error(population):
    errors = phase_diagram.prediction_errors(phase_diagram.diagram_rows(population), ["rule_reward"])
    of_arm = {name: row["rule_reward"] for name, row in errors.items()}
    assert of_arm["judge (gold)"] == pytest.approx(of_arm["vote agreement (no labels)"]) and of_arm["judge (gold)"] < 1
    assert of_arm["writer (gold)"] > of_arm["judge (gold)"] and of_arm["nothing (the other bases' mean)"] > 5
    assert np.isnan(of_arm["attempt agreement (no labels)"])  # the same in all bases


def test_bases_without_measures_leave_the_diagram_empty(results, population):
    for file in (results / "bases").iterdir():
        file.unlink()
    (results / "bases" / "b01.json").write_text("{}")
    rows = phase_diagram.diagram_rows(load(results))
    assert rows[0]["judge"] is None and rows[0]["gain"] == pytest.approx(-10)
    assert not phase_diagram.lift_offs(rows, ["rule_reward"]) and not phase_diagram.slopes(rows, ["rule_reward"])
    assert "Phase diagram" not in pages.results_text(load(results), [], [])
    assert figures.drawable(population) == [*figures.FIGURES]


# --- what is written


def test_claims_and_tables_are_written(results, script):
    assert script("reproduce.claims", "--results", results) == 0
    rows = json.loads((results / "claims.json").read_text())
    needed = {"id", "claim", "verdict", "effect", "ci_low", "ci_high", "n_bases", "n_seeds", "holm_p", "budget"}
    assert all(needed | {"parts", "threshold", "depends_on", "arms", "note"} <= row.keys() for row in rows)
    assert len(json.loads((results / "phase_diagram.json").read_text())) == 12
    assert len(json.loads((results / "audits.json").read_text())) == 6
    text = (results / "RESULTS.md").read_text()
    assert "Runs: 18 of the 18 that it names, each of 1 round." in text and "- C6: said of it" in text
    assert "Runs that were not named before: b01_r_zero_seed0." in text and "\n| r_zero |" not in text
    assert "**depends on the judge (above from 65%)**" in text and "Missing: none." in text
    assert "| b03 | 65 | 50 | 40 | +0.5 | -1.7 |" in text and "small profile" not in text
    assert "| frozen_grm | 6 | 6 | 30.0 ± 0.0 | 40.0 ± 0.0 | 90.0 ± 0.0 | 50.0 ± 0.0 |" in text
    assert "- `frozen_grm`: The GRM is never trained (the paper's ablation)." in text


def test_results_of_a_small_profile_say_so(population):
    for bases in population.runs.values():
        for run in (run for seeds in bases.values() for run in seeds):
            run["config"] |= {"round_rollouts": 100}
    text = pages.results_text(population, [], [])
    assert (
        "each of 1 round of 100 rollouts" in text
        and "not the runs that were fixed, of 1 round, but a small profile's" in text
    )


def test_claims_are_the_same_when_made_again(results, script):
    found = []
    for _ in range(2):
        script("reproduce.claims", "--results", results)
        found.append([file.read_bytes() for file in sorted(results.iterdir()) if file.is_file()])
    assert found[0] == found[1]


def test_budget_of_an_arm_is_what_a_run_spends(population):
    rows = tables.budgets_table(population).splitlines()
    spent = {row.split(" | ")[0].strip("| "): row.split(" | ")[1:9] for row in rows[2:]}
    assert (
        spent["rule_reward"] == ["6", "500", "5000", "50", "10", "600", "100", "0"] and spent["frozen_grm"][1] == "1000"
    )


def test_accuracy_at_equal_budget_stops_at_the_cheapest_run_of_the_base(population):
    """b01: rule_reward falls from 30 to 20 in 500 rollouts, a mean of 25; frozen_grm from 30 to 18 in 1000."""
    (population.runs["rule_reward"], population.runs["frozen_grm"]) = (
        {"b01": population.runs[arm]["b01"]} for arm in ("rule_reward", "frozen_grm")
    )
    rows = {row.split(" | ")[0].strip("| "): row.split(" | ") for row in tables.budgets_table(population).splitlines()}
    assert (rows["rule_reward"][9], rows["frozen_grm"][9]) == ("25.0", "27.0")


def test_curve_of_an_arm_is_the_mean_over_bases_not_over_runs():
    runs = runs_of(gains("asl", [10, 30]), gains("asl", [20], seed=1))
    curve, bases = tables.arm_curve(runs, "asl", "accuracy", "mean")
    assert curve == pytest.approx([30, 52.5]) and bases == 2
    curve, bases = tables.arm_curve(runs, "asl", "phase", "judge_reward")
    assert np.isnan(curve[0]) and bases == 2


def test_all_rounds_of_a_curve_are_of_the_same_bases():
    """A base that lacks a value in one round is left out of the others too."""
    runs = runs_of(gains("asl", [10, 30]))
    runs["asl"]["b02"][0]["rounds"][1]["accuracy"]["mean"] = None
    curve, bases = tables.arm_curve(runs, "asl", "accuracy", "mean")
    assert curve == pytest.approx([30, 40]) and bases == 1
    runs["asl"]["b01"][0]["rounds"][0]["accuracy"]["mean"] = None
    assert np.isnan(tables.arm_curve(runs, "asl", "accuracy", "mean")[0]).all()


def test_short_claims_and_readme_have_a_row_each(population):
    rows = claims.claim_rows(population)
    blocks = pages.results_blocks(population, rows, audit(population))
    assert blocks["claims"].startswith(
        "All 18 runs are there. holds: 1, depends: 1, undecided: 0, does not hold: 0, not run: 0."
    )
    assert "C3.other" not in blocks["claims"] and "passed" in blocks["audits"]
    accuracy = pages.readme_blocks(population)["accuracy by round"]
    assert "| rule_reward | 6 | 12 | 40.0 | 30.0 | 32.6 | +2.6 ± 10.0 | -10.0 to +15.0 |" in accuracy
    assert accuracy.count("frozen_grm") == 1
    part = rows[0]["parts"][0] | {"verdict": "does not hold", "depends_on": None, "effect": -2.0, "ci_low": None}
    unrun = rows[0] | {"verdict": "not run", "depends_on": None, "parts": [part]}
    assert f"**not run**; {part['metric']}: -2.0, does not hold |" in tables.short_claims([unrun])


def test_pages_say_how_many_runs_are_there(population):
    named = population.selection.named
    some = replace(population, selection=Selection(dict(list(named.items())[:5]), list(named)[5:], []))
    assert pages.progress(some).startswith("**5 of 18 runs are there**, so all of this is provisional")
    rows = claims.claim_rows(some)
    lacking = [sum(name[1] in row["arms"] for name in list(named)[5:]) for row in rows]
    assert [row["missing_runs"] for row in rows] == lacking and sum(lacking)
    assert "**provisional: depends on the judge" in tables.short_claims(rows)
    assert {verdict["provisional"] for row in rows[:2] for verdict in (row, *row["parts"], *row["shown"])} == {True}
    assert listed([("b01", "asl", 0)]) == "b01_asl_seed0"
    assert listed([("b01", arm, seed) for seed in range(10) for arm in ("x", "y")]) == "10 of x, 10 of y"


def test_own_claims_are_shown_beside_the_record(population):
    rows = claims.claim_rows(population)
    record = [rows[1] | {"effect": 9.0, "ci_low": 8.0, "ci_high": 10.0, "n_bases": 12}]
    lines = tables.beside_record(rows, record).splitlines()
    assert [line.split() for line in lines[3:5]] == [
        ["here:", "holds", "+2.2", "(+2.1", "to", "+2.4)", "bases:", "6,", "runs", "missing:", "0"],
        ["recorded:", "holds", "+9.0", "(+8.0", "to", "+10.0)", "bases:", "12,", "runs", "missing:", "0"],
    ]


def test_what_is_committed_is_what_the_runs_files_give():
    if not any((RESULTS / "runs").glob("*.json")):
        pytest.skip("no runs are recorded")
    population = load(RESULTS)
    rows, audits = claims.claim_rows(population), audit(population)
    recorded = {"claims": rows, "audits": audits, "phase_diagram": phase_diagram.diagram_rows(population)}
    for name, found in recorded.items():
        assert json.loads((RESULTS / f"{name}.json").read_text()) == found
    assert (RESULTS / "RESULTS.md").read_text() == pages.results_text(population, rows, audits)
    assert claims.README.read_text() == pages.refresh(claims.README, pages.readme_blocks(population))
    assert claims.PAGE.read_text() == pages.refresh(claims.PAGE, pages.results_blocks(population, rows, audits))


def test_only_the_named_blocks_of_a_page_are_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- end -->\nb\n<!-- y -->\nkept\n<!-- end -->\nc\n")
    found = pages.refresh(page, {"x": "new"})
    assert found == "a\n<!-- x -->\nnew\n<!-- end -->\nb\n<!-- y -->\nkept\n<!-- end -->\nc\n"
    with pytest.raises(pages.InputError, match=r"page\.md: no <!-- z -->"):
        pages.refresh(page, {"z": "new"})


def test_choices_are_shown_by_variant(results, population):
    for variant, points in {"rate_a": [10, 20], "rate_b": [30]}.items():
        write_results(results / "lr" / variant, gains("rule_reward", points))
        (results / "lr" / variant / "runs").rename(results / "lr" / f"{variant}_")
        (results / "lr" / variant).rmdir()
    text = tables.choices_table(results / "lr")
    assert text.splitlines()[0] == "| arm | rate_a_ | rate_b_ |" and "| rule_reward | 45.0 ± 63.5 | 60.0 |" in text


def test_all_figures_are_drawn_and_one_is_the_same_when_drawn_again(results, script, monkeypatch):
    assert script("reproduce.figures", "--results", results) == 0
    folder = results / "figures"
    assert {file.name for file in folder.iterdir()} == {f"{n}.{end}" for n in figures.FIGURES for end in ("png", "svg")}
    before = (folder / "phase_diagram.svg").read_bytes()
    monkeypatch.setattr(figures, "FIGURES", {"phase_diagram": figures.FIGURES["phase_diagram"]})
    script("reproduce.figures", "--results", results)
    assert (folder / "phase_diagram.svg").read_bytes() == before


def test_figures_of_a_single_base_and_arm(tmp_path, monkeypatch, script):
    design = write_design(tmp_path / "p.yaml")
    monkeypatch.setattr("reproduce.population.read", lambda: design)
    write_results(tmp_path / "results", gains("rule_reward", [5]))
    assert script("reproduce.figures", "--results", tmp_path / "results") == 0
    drawn = {file.stem for file in (tmp_path / "results" / "figures").iterdir()}
    assert drawn >= {"rounds", "bases", "budgets"} and "hacking" not in drawn


BAD_RESULTS = {
    "no folder": (lambda runs: None, "no such folder"),
    "no runs": (lambda runs: runs.mkdir(), "holds no summary of a run"),
    "not JSON": (lambda runs: (runs.mkdir(), (runs / "a.json").write_text("{")), "a.json: not JSON"),
    "a list": (lambda runs: (runs.mkdir(), (runs / "a.json").write_text("[]")), "a.json: not the summary of a run"),
    "no rounds": (
        lambda runs: (runs.mkdir(), (runs / "a.json").write_text(json.dumps(summary("b", "asl", 0) | {"rounds": 7}))),
        "a.json: 'rounds' must be a list",
    ),
    "twice": (
        lambda runs: (runs.mkdir(), [(runs / f"{x}.json").write_text(json.dumps(gains("a", [1])[0])) for x in "ab"]),
        "b.json: a second summary of the run b01_a_seed0",
    ),
    "only others": (
        lambda runs: (runs.mkdir(), (runs / "a.json").write_text(json.dumps(gains("nobody", [1])[0]))),
        "holds none of the runs that preregistered.yaml names",
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


def test_text_of_what_was_not_measured():
    empty = claims.finding_row(Finding(Part("gain", ("asl",)), "not run"))
    assert tables.effect_text(empty) == "-" and empty["n_bases"] == 0
    one = claims.finding_row(Finding(Part("gain", ("asl",)), "undecided", Estimate(5.0, -np.inf, np.inf, np.nan, 1), 1))
    assert tables.effect_text(one) == "+5.0" and one["ci_low"] is None and one["p"] is None


# --- greedy decoding


def test_greedy_table_sets_runs_beside_their_base_decoded_greedily(population):
    """frozen_grm of b01 ends at 18% at temperature 1; its base has 25% greedy, its last policy 30%."""
    assert tables.greedy_table(population) == ""
    rows = [("b01", "base", 0.25), ("b01", "frozen_grm", 0.3), ("b02", "frozen_grm", 0.9)]
    rows = [{"base": base, "arm": arm, "seed": 0, "accuracy": {"mean": value}} for base, arm, value in rows]
    (population.folder / tables.GREEDY).write_text(json.dumps(rows))
    head, _, row = tables.greedy_table(population).splitlines()
    assert "both greedy" in head
    assert row.split(" | ")[1:] == ["1", "30.0", "25.0", "18.0", "30.0", "-7.0", "+5.0 |"]  # b02's base is not measured


def test_greedy_measures_finished_runs_and_their_bases_once(results, changed, tmp_path, script, monkeypatch):
    run, asked = tmp_path / "runs" / "b01_frozen_grm_seed0", []
    run_dir.create(run, changed(rounds=1))
    for role in ROLES:
        folder = run_dir.begin(run, 1, role)
        (folder / "adapter").mkdir()
        run_dir.finish(folder, {})

    def measured(config: Config, adapter: Path | None) -> dict[str, float]:
        asked.append(adapter)
        return {"mean": 0.5}

    monkeypatch.setattr(greedy, "measured", measured)
    monkeypatch.setattr(greedy, "ProcessPoolExecutor", lambda jobs, context: ThreadPoolExecutor(jobs))
    for _ in range(2):
        assert script("reproduce.greedy", "--runs", tmp_path / "runs", "--results", results) == 0
    assert {row["arm"] for row in tables.greedy_rows(results)} == {"base", "frozen_grm"}
    assert set(asked) == {None, run / "round_01" / "policy" / "adapter"} and len(asked) == 2


def test_greedy_accuracy_is_that_of_an_evaluation(changed):
    config = changed(eval_per_hop=2)
    assert greedy.measured(config, None)["mean"] == evaluate_agent(Agent(config, {}))[0]["accuracy_greedy"]["mean"]
