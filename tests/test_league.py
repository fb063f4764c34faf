"""The league: its preregistration, its statistics on made-up gains with known answers, its page and its figures."""

import json
import random
import sys
from dataclasses import replace

import numpy as np
import pytest
import yaml
from helpers import ROOT
from made_up import gains, measures_of, summary, write_results
from scipy.stats import studentized_range, ttest_rel

from asl_min.run.errors import InputError
from reproduce import designs, league, league_figures, league_ranks, league_tables, runner

sys.path.insert(0, str(ROOT / "docs"))
import fidelity

BASES = [f"b{n:02}" for n in range(1, 7)]
ORDER = ("search_r1_64", "ssp", "sqlm")


def made_up(**by_base) -> list[dict]:
    """Rows of one seed, by system its gains on b01, b02, …"""
    return [league.row_of(run) for system, found in by_base.items() for run in gains(system, found)]


THREE = made_up(search_r1_64=[30, 32, 31, 33, 30, 31], ssp=[10, 12, 11, 13, 10, 11.5], sqlm=[1, 2, 30.5, 3, 1, 2])


# --- the preregistration


def test_shipped_file_draws_its_bases_by_lot_and_names_systems_that_exist():
    design = designs.read(designs.LEAGUE)
    population = designs.read().bases.names
    assert list(design.bases.names) == sorted(random.Random(22).sample(list(population), 6))
    assert len(design.arms) >= 16 and min(design.arms.values()) >= 2
    text = designs.LEAGUE.read_text()
    assert ("to be chosen" in text) == text.startswith("# DRAFT")
    for arm in design.arms:
        config = design.config(("b01", arm, 0))
        assert (config.name, config.rounds, config.round_rollouts) == (arm, 3, 3000)
        assert config.learning_rate == design.learning_rates[arm]


def test_profile_of_the_learning_rates_has_all_systems_validation_bases_and_a_round_of_the_league(tmp_path):
    design = designs.read(designs.LEAGUE)
    jobs = runner.small_jobs(runner.ARMS, "league_lr", tmp_path, tmp_path)
    assert {job.arm for job in jobs} == design.arms.keys() and {job.base for job in jobs} == {"v01", "v03"}
    configs = [job.config() for job in jobs]
    assert {c.learning_rate for c in configs} == {5e-4, 1e-3, 2e-3} and {c.eval_split for c in configs} == {
        "validation"
    }
    assert {(c.rounds, c.round_rollouts) for c in configs} == {(2, design.budget.round_rollouts)}


def test_runs_that_were_made_before_are_not_made_again():
    """They differ in nothing but what is measured beside the accuracy, so they must be of the same rate."""
    league, full = designs.read(designs.LEAGUE), designs.read()
    shared, own = league.shared(), set(league.names())
    assert shared | own == set(league.compared()) and not shared & own
    assert ("b01", "asl_gen_rm", 1) in shared and ("b01", "search_r1_64", 1) in own and ("b01", "ssp", 0) in own
    assert shared <= set(full.names())
    other = replace(league, learning_rates=league.learning_rates | {"asl_gen_rm": 5e-4})
    assert ("b01", "asl_gen_rm", 0) in other.names() and ("b01", "asl_rule", 0) in other.shared()


def test_rates_must_be_those_of_the_arms(tmp_path):
    values = yaml.safe_load(designs.LEAGUE.read_text())
    del values["learning_rates"]["ssp"]
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=r"learning_rates: must have those of the arms .* 'ssp' is amiss"):
        designs.read(tmp_path / "p.yaml")


def test_league_profile_is_what_the_file_names_in_folders_of_its_own(tmp_path):
    design = designs.read(designs.LEAGUE)
    found = runner.full_jobs(designs.LEAGUE, tmp_path / "runs", tmp_path / "results", "league")
    assert [(job.base, job.arm, job.seed) for job in found] == design.names()
    assert found[0].run == tmp_path / "runs" / "league_b01_agent0_seed0"
    assert found[0].result == tmp_path / "results" / "league" / "runs" / "b01_agent0_seed0.json"


def test_one_system_more_is_run_on_the_same_bases_and_seeds_at_its_own_rate(tmp_path):
    found = runner.full_jobs(designs.LEAGUE, tmp_path, tmp_path, "league", "frozen_pg")
    design = designs.read(designs.LEAGUE)
    assert [(job.base, job.seed) for job in found] == [(b, seed) for seed in (0, 1) for b in design.bases.names]
    assert {(job.arm, job.config().round_rollouts) for job in found} == {("frozen_pg", 3000)}
    with pytest.raises(InputError, match="no such config file"):
        runner.full_jobs(designs.LEAGUE, tmp_path, tmp_path, "league", "fame")


def test_only_the_league_takes_a_system(script, capsys):
    assert script("reproduce.runner", "--profile", "full", "--system", "ssp", "--dry-run") == 2
    assert "--system is 'ssp'" in capsys.readouterr().err


# --- rows


def test_row_keeps_gain_budgets_and_labels():
    row = league.row_of(summary("b03", "ssp", 1, 0.3, 0.4, 0.5, gold_labels=64))
    assert (row["system"], row["base"], row["seed"], row["gain"], row["final"]) == ("ssp", "b03", 1, 20.0, 50.0)
    assert (row["rollouts"], row["tokens"], row["gold_labels"], row["sound_tasks"]) == (2000, 10000, 64, 90.0)
    assert row["rounds"][2]["accuracy"] == {"mean": 0.5} and league.m.gain(row) == pytest.approx(20)


def test_rows_of_other_systems_stay():
    record, new = made_up(ssp=[1, 2], sqlm=[3, 4]), made_up(mine=[9], sqlm=[5])
    found = league.merged(record, new, ["sqlm", "ssp"])
    assert [(r["system"], r["base"], r["gain"]) for r in found] == [
        ("sqlm", "b01", 5.0),
        ("sqlm", "b02", 4.0),
        ("ssp", "b01", 1.0),
        ("ssp", "b02", 2.0),
        ("mine", "b01", 9.0),
    ]


@pytest.mark.parametrize("text", ["[", "{}", "[1]", '[{"system": "x"}]'])
def test_file_without_rows_is_refused(text, tmp_path):
    (tmp_path / "league.json").write_text(text)
    with pytest.raises(InputError, match=r"league\.json"):
        league.read_rows(tmp_path / "league.json")


def test_chosen_rate_has_the_highest_final_accuracy_and_of_equals_is_the_smallest(tmp_path):
    finals = {1e-4: {"ssp": [10, 20], "sqlm": [5, 5]}, 2e-4: {"ssp": [30, 10], "sqlm": [5, 5]}}
    for rate, by_arm in finals.items():
        runs = [run for arm, found in by_arm.items() for run in gains(arm, found, config={"learning_rate": rate})]
        write_results(tmp_path / str(rate), runs)
        (tmp_path / "league_lr").mkdir(exist_ok=True)
        (tmp_path / str(rate) / "runs").rename(tmp_path / "league_lr" / f"rate_{rate}")
    assert league.chosen_rates(tmp_path / "league_lr") == {"ssp": 2e-4, "sqlm": 1e-4}
    next((tmp_path / "league_lr" / "rate_0.0001").glob("b02_ssp*")).unlink()
    with pytest.raises(InputError, match=r"rate_0.0001 lacks b02_ssp_seed0; .* PROFILE=league_lr"):
        league.chosen_rates(tmp_path / "league_lr")
    with pytest.raises(InputError, match="holds no summaries"):
        league.chosen_rates(tmp_path / "none")


# --- statistics


def test_ranks_are_means_over_bases_with_shared_places():
    table = league_ranks.table_of(THREE)
    assert table.systems == ORDER and table.bases == tuple(BASES) and table.gains[1].tolist()[:2] == [10.0, 12.0]
    assert table.ranks.tolist() == [[1] * 6, [2, 2, 3, 2, 2, 2], [3, 3, 2, 3, 3, 3]]
    equal = replace(table, gains=np.ones((3, 6)))
    assert (equal.ranks == 2).all()
    found = league_ranks.mean_ranks(table)
    assert [row.system for row in found] == list(ORDER)
    assert [row.mean for row in found] == pytest.approx([1, 13 / 6, 17 / 6])
    assert (found[0].low, found[0].high) == (1, 1) and 2 <= found[1].low < found[1].mean < found[1].high <= 3
    assert found == league_ranks.mean_ranks(table)


def test_system_that_lacks_a_base_is_not_ranked():
    table = league_ranks.table_of([*THREE, *made_up(spice=[99])])
    assert table.systems == ORDER and table.incomplete == ("spice",)


def named(rows) -> list:
    return [league_ranks.name_of_row(row) for row in rows]


def test_only_named_runs_are_in_the_table_and_a_system_that_lacks_one_is_not():
    more = [league.row_of(run) for run in gains("ssp", [99] * 6, 1)]
    table = league_ranks.table_of([*THREE, *more, *made_up(frozen_pg=[1] * 7)], named(THREE))
    assert (table.systems, table.bases, table.incomplete) == (ORDER, tuple(BASES), ())
    assert table.gains[1].tolist()[:2] == [10.0, 12.0]
    table = league_ranks.table_of(THREE, named([*THREE, *more]))
    assert (table.systems, table.incomplete) == (("search_r1_64", "sqlm"), ("ssp",))
    assert league_ranks.table_of(made_up(ssp=[1]), named(THREE)).gains.shape == (0, 6)


def test_place_that_another_system_would_have():
    table = league_ranks.table_of(THREE)
    assert league_ranks.place(table, [99] * 6) == 1 and league_ranks.place(table, [-1] * 6) == 4
    assert league_ranks.place(table, table.gains[0]) == 1.5


def test_exploratory_runs_change_nothing_but_their_own_lines(monkeypatch):
    design = designs.read(designs.LEAGUE)
    monkeypatch.setattr(type(design), "compared", lambda self: named(THREE))
    plain = league_tables.results_text(THREE, {}, design)
    more = league_tables.results_text([*THREE, *made_up(frozen_pg=[50] * 6, spice=[3])], {}, design)
    assert "18 of 18 named runs are there. 3 systems on 6 bases" in plain and "of 3 pairs" in plain
    begin, end = more.split("Not named before the runs, so exploratory")
    text, rest = end.split("### Which differences are real")
    assert f"{begin}### Which differences are real{rest}" == plain
    assert "| frozen_pg | 1.0 | +50.0" in text and "without a run on each base: spice" in text


def test_system_of_ones_own_alone_has_its_bases_and_rank():
    """Before the league itself has run there is no row of a named system."""
    rows = made_up(mine=[1, 2, 3])
    assert league_ranks.table_of(rows).gains.shape == (1, 3)
    assert league_ranks.table_of(rows).bases == ("b01", "b02", "b03")
    text = league_tables.results_text(rows, {}, designs.read(designs.LEAGUE))
    assert "0 of 240 named runs are there, so this is provisional" in text and "| mine | 1.0 (1.0 to 1.0)" in text


def test_bases_are_compared_by_single_seeds_as_seeds_are():
    rows = [league.row_of(run) for seed in (1, 0) for run in gains("ssp", [10 + seed, 4], seed)]
    assert [row["seed"] for row in league_ranks.first_seeds(rows)] == [0, 0]


def test_seeds_of_a_base_count_once():
    rows = [league.row_of(run) for seed in (0, 1) for run in gains("ssp", [10 + 10 * seed, 4], seed)]
    assert league_ranks.table_of(rows).gains.tolist() == [[pytest.approx(15), pytest.approx(4)]]


def test_real_differences_are_those_that_survive_tukeys_test():
    found = league_ranks.differences(league_ranks.table_of(THREE))
    by_pair = {(row.ahead, row.behind): row.is_real for row in found}
    assert by_pair == {("search_r1_64", "ssp"): True, ("search_r1_64", "sqlm"): True, ("ssp", "sqlm"): False}
    assert found[0].ahead == "search_r1_64" and found[0].found.n == 6
    more = league_ranks.differences(league_ranks.table_of(THREE), systems=20)
    assert all(other.p > row.p for row, other in zip(found, more, strict=True))


def test_tukeys_test_is_that_of_two_way_layouts():
    """Worked by hand: means 2, 4 and 6; residuals of squares 4 in all, 4 degrees of freedom, so a spread of 1."""
    gains = np.array([[1, 2, 3], [4, 3, 5], [4, 7, 7]], float)
    error = 3**-0.5
    p = league_ranks.tukey(gains, [(0, 1), (2, 0)], 3)
    assert p == pytest.approx(studentized_range.sf(np.array([2, 4]) / error, 3, 4))
    assert np.isnan(league_ranks.tukey(gains[:, :1], [(0, 1)], 3)).all() and not len(league_ranks.tukey(gains, [], 3))
    two = league_ranks.tukey(gains[:2], [(0, 1)], 2)
    assert two == pytest.approx(ttest_rel(*gains[:2]).pvalue)  # of two systems it is the paired t-test


def test_bases_agree_where_their_orders_are_the_same():
    same = league_ranks.agreement(league_ranks.table_of(made_up(a=[3, 3, 3], b=[2, 2, 2], c=[1, 1, 1])))
    other = league_ranks.agreement(league_ranks.table_of(made_up(a=[3, 1, 2], b=[2, 3, 1], c=[1, 2, 3])))
    assert same.w == pytest.approx(1) and same.p < 0.06 and other.w == pytest.approx(0) and other.p > 0.9
    assert league_ranks.agreement(league_ranks.table_of(made_up(a=[3, 1]))) is None


def test_rank_correlation_between_bases_and_seeds():
    table = league_ranks.table_of(THREE)
    found = league_ranks.base_correlations(table)
    assert len(found) == 15 and found["b01", "b02"] == 1.0 and found["b01", "b03"] == pytest.approx(0.5)
    assert np.isnan(league_ranks.rank_correlation(np.array([1, 1, 1]), np.array([1, 2, 3])))
    assert np.isnan(league_ranks.rank_correlation(np.array([1, 2]), np.array([1, 2])))
    rows = [
        league.row_of(run)
        for s, pair in {"a": (1, 3), "b": (2, 2), "c": (3, 1)}.items()
        for seed in (0, 1)
        for run in gains(s, [pair[seed]], seed)
    ]
    assert league_ranks.seed_correlations(rows) == {"b01": pytest.approx(-1.0)}
    assert np.isnan(league_ranks.seed_correlations(THREE)["b01"])


def test_winner_of_each_base_and_its_lead():
    found = league_ranks.winners(league_ranks.table_of(THREE))
    assert {row.system for row in found} == {"search_r1_64"}
    assert [round(row.by, 6) for row in found[:3]] == [20.0, 20.0, 0.5]
    assert league_ranks.winners(league_ranks.table_of(made_up(ssp=[1]))) == []


def measured(slope_of: str) -> dict[str, dict]:
    """Bases whose judge or writer rises from b01 to b06; the other is the same in all."""
    values = [0.5 + 0.05 * i for i in range(6)]
    return {
        b: measures_of(v, 0.7) if slope_of == "judge" else measures_of(0.7, v)
        for b, v in zip(BASES, values, strict=True)
    }


def test_what_breaks_a_system_is_the_slope_of_its_gain():
    table = league_ranks.table_of(made_up(ssp=[0, 2, 4, 6, 8, 10], sqlm=[5, 5, 5, 5, 5, 5]))
    found = {(row.system, row.measure): row for row in league_ranks.breaks(table, measured("judge"))}
    assert found.keys() == {("ssp", "judge"), ("sqlm", "judge")}  # the writer and the majority do not vary
    # 2 points a base, a standard deviation is sqrt(3.5) bases
    assert found["ssp", "judge"].slope == pytest.approx(2 * 3.5**0.5) and found["ssp", "judge"].n == 6
    assert found["sqlm", "judge"].slope == pytest.approx(0, abs=1e-9)
    assert {row.measure for row in league_ranks.breaks(table, measured("writer"))} == {"writer"}
    assert league_ranks.breaks(table, {"b01": measures_of(0.5)}) == []


# --- tables and figures


@pytest.mark.parametrize(
    ("system", "paid"),
    [
        ("asl_gen_rm", "judge"),
        ("pae", "judge"),
        ("ssp", "task's own answer"),
        ("sqlm", "majority"),
        ("r_zero", "majority"),
        ("search_r1_64", "gold"),
    ],
)
def test_what_pays_the_policy_is_asked_of_the_recipe(system, paid):
    assert league_tables.paid_by(system) == paid


def test_page_shows_ranks_budgets_and_breaks(monkeypatch):
    design = designs.read(designs.LEAGUE)
    monkeypatch.setattr(type(design), "compared", lambda self: named(THREE))
    text = league_tables.results_text(THREE, measured("judge"), design)
    assert "| search_r1_64 | 1.0 (1.0 to 1.0) | +31.2" in text and "| gold |" in text
    assert "| b03 | 60 | 70 | search_r1_64 | +31.0 | 0.5 |" in text
    assert "Spearman's rank correlation" in text and "Kendall's W" in text and "nan" not in text.lower()


def test_equal_budgets_are_the_announced_rollouts_and_the_medians_of_the_rest():
    """A cheap run changes nobody's rollouts, and keeps its last accuracy beyond its end."""
    announced = designs.Budget(rounds=2, round_rollouts=1000)
    rows = made_up(ssp=[10], sqlm=[20])
    cheap = dict(rows[0], rounds=[row | {"rollouts": row["rollouts"] // 4} for row in rows[0]["rounds"]])
    assert league_tables.over("rollouts", rows, [rows[1]], announced) == league_tables.over(
        "rollouts", [cheap, rows[1]], [rows[1]], announced
    )
    early = league_tables.over("rollouts", rows, [cheap], announced)
    assert early > league_tables.over("rollouts", rows, [rows[0]], announced)


def test_page_of_one_system_on_one_base_has_no_more_than_it_knows():
    text = league_tables.results_text(made_up(ssp=[1]), {}, designs.read(designs.LEAGUE))
    assert "0 of 0 pairs" in text and "Not known with so few" in text


def test_figures_are_drawn(tmp_path):
    files = league_figures.draw_all(THREE, measured("judge"), tmp_path)
    assert {f.name for f in files} == {f"{n}.{k}" for n in ("curves", "ranks", "winners") for k in ("png", "svg")}
    assert all(f.stat().st_size > 5000 for f in files)
    assert len(league_figures.draw_all(THREE, {}, tmp_path)) == 4  # no base was measured


def test_named_rows_alone_are_compared_as_soon_as_there_are_any():
    """Whole systems of them where there are some, else what there is."""
    names = [(base, arm, seed) for arm in ("ssp", "sqlm") for base in ("b01", "b02") for seed in (0, 1)]
    first = made_up(spice=[9, 9], ssp=[1, 2], sqlm=[3, 4])
    rows, table = league_ranks.compared(first, names)
    assert {row["system"] for row in rows} == {"ssp", "sqlm"} and table.systems == ("ssp", "sqlm")
    second = [row | {"seed": 1} for row in first if row["system"] == "ssp"]
    assert league_ranks.compared([*first, *second], names)[1].systems == ("ssp",)
    assert league_ranks.compared(first[:2], names)[1].systems == ("spice",)


def test_script_writes_rows_page_and_figures_beside_the_record(tmp_path, script, monkeypatch):
    monkeypatch.setattr(league, "RESULTS", tmp_path / "record")
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "league.json").write_text(json.dumps(made_up(spice=[1, 2, 3], sqlm=[9, 9, 9])))
    runs = [run for system in ORDER for run in gains(system, [5, 6, 7])]
    write_results(tmp_path / "results" / "league", runs)
    assert script("reproduce.league", "--results", tmp_path / "results", "--dry-run") == 0
    assert not (tmp_path / "results" / "league.json").exists()
    assert script("reproduce.league", "--results", tmp_path / "results") == 0
    rows = json.loads((tmp_path / "results" / "league.json").read_text())
    assert [(r["system"], r["gain"]) for r in rows if r["base"] == "b01"] == [
        ("search_r1_64", 5.0),
        ("ssp", 5.0),
        ("sqlm", 5.0),
        ("spice", 1.0),
    ]
    assert "### Ranks" in (tmp_path / "results" / "league" / "LEAGUE.md").read_text()
    assert (tmp_path / "results" / "league" / "figures" / "ranks.svg").is_file()


def test_script_makes_the_page_of_the_records_own_results(tmp_path, script, monkeypatch):
    page = tmp_path / "league.md"
    page.write_text("before\n<!-- results -->\nNot run yet.\n<!-- end -->\nafter\n")
    monkeypatch.setattr(league, "RESULTS", tmp_path / "record")
    monkeypatch.setattr(league, "PAGE", page)
    write_results(tmp_path / "record" / "league", gains("ssp", [5, 6, 7]))
    assert script("reproduce.league") == 0
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "### Ranks" in text and "Not run" not in text


# --- where the rules come from


def test_every_system_of_the_league_says_where_its_rule_comes_from():
    for arm in designs.read(designs.LEAGUE).arms:
        found = fidelity.fidelity(fidelity.recipe_of(arm))
        assert found.rule and found.source and found.differs
        assert found.read.startswith(("code", "paper", "about", "-"))
        assert found.read != "code." or found.commit != "-"


def test_recipe_without_a_source_is_refused():
    with pytest.raises(ValueError, match="random_tasks: its docstring needs"):
        fidelity.fidelity("random_tasks")


def test_system_that_is_left_out_has_no_arm():
    arms = {path.stem for path in (ROOT / "configs" / "arms").glob("*.yaml")}
    left_out = yaml.safe_load((ROOT / "docs" / "left_out.yaml").read_text())
    assert left_out and not {name.lower() for name in left_out} & arms
