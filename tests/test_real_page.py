"""The real run's page and tables, and the choice of its learning rate and mode, from made-up summaries."""

import numpy as np
import pytest
from made_up import summary

from asl_min.corpus import write_jsonl
from asl_min.run.errors import InputError
from reproduce import designs, real, real_tables
from reproduce.designs import select
from reproduce.records import compact, dump, name_of, run_name

BASE = "smollm2-135m-cold"


def real_run(arm: str, seed: int, *accuracies: float, **config) -> dict:
    """A summary with two sets of questions, one 5 points above the mean and one below."""
    found = summary(BASE, arm, seed, *accuracies, config=config)
    for row in found["rounds"]:
        mean = row["accuracy"]["mean"]
        of = {"all": mean, "nq_dev": mean + 0.05, "two_hop": mean - 0.05}
        row["accuracy"]["sets"] = {
            name: {"em": [x, x - 0.02, x + 0.02], "f1": [x + 0.1, x, 1], "searches": [1.5, 1.2, 1.8]}
            for name, x in of.items()
        }
    return compact(found)


RUNS = [
    *(real_run("asl_gen_rm", seed, 0.10, 0.12, 0.14 + 0.01 * seed) for seed in range(3)),
    real_run("frozen_grm", 0, 0.10, 0.11, 0.12),
    real_run("data_4", 0, 0.10, 0.11, 0.12),
]


def write_runs(folder, runs=RUNS):
    folder.mkdir(parents=True)
    for run in runs:
        (folder / f"{run_name(*name_of(run))}.json").write_text(dump(run))


def selection(runs=RUNS):
    return select(designs.read(designs.REAL), {name_of(run): run for run in runs})


def cells(table: str, *first: str) -> list[str]:
    """The cells of the row that begins with these."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    (found,) = [row for row in rows if row[: len(first)] == list(first)]
    return found


def test_gains_have_an_interval_over_seeds_and_a_single_run_one_over_questions():
    table = real_tables.gains_table(real_tables.arms_of(selection()))
    row = cells(table, "asl_gen_rm")
    assert row[1:5] == ["3", "10.0", "12.0", "15.0"] and row[6] == "-"
    assert row[5] == "+5.0 ± 2.5"  # t(0.975, 2) / sqrt(3) = 2.48 of one point
    assert cells(table, "frozen_grm")[1:] == ["1", "10.0", "11.0", "12.0", "+2.0", "12.0 (10.0 to 14.0)"]


def test_sets_stand_by_run_and_round_with_their_intervals():
    table = real_tables.sets_table(real_tables.arms_of(selection()), "em")
    assert cells(table, "asl_gen_rm", "2", "nq_dev")[3:] == [
        "15.0 (13.0 to 17.0)",
        "17.0 (15.0 to 19.0)",
        "21.0 (19.0 to 23.0)",
    ]
    searches = real_tables.sets_table(real_tables.arms_of(selection()), "searches")
    assert cells(searches, "frozen_grm", "0", "all")[3] == "1.5 (1.2 to 1.8)"
    assert "not" not in (text := real_tables.sets_text(selection())) and text.count("## ") == 5


def test_headline_says_what_is_missing_and_what_was_not_named_and_leaves_out_what_was_not_measured():
    text = real_tables.headline_text(selection(), [])
    total = len(designs.read(designs.REAL).names())
    assert f"4 of {total} named runs are there, so this is provisional. Missing: {BASE}_abs" in text
    assert f"exploratory: {BASE}_data_4_seed0" in text and "| data_4 |" not in text
    assert "Not rated yet." in text and "nan" not in text
    row = cells(text.split("### ")[2], "frozen_grm")
    assert row[1:] == ["-", "20.0 → 22.0", "1.5 → 1.5", "-", "60.0 → 60.0", "60.0 → 60.0"]
    assert cells(text.split("### ")[4], "frozen_grm")[1:] == ["2000", "10000", "100", "20", "0"]


@pytest.mark.parametrize(
    ("curves", "text"),
    [
        ([[1, 2], [3, 4]], "2.0 → 3.0"),
        ([[np.nan, 2], [3, 4]], "3.0 → 3.0"),
        ([[np.nan, 2]], "- → 2.0"),
        ([[np.nan, np.nan]], "-"),
    ],
)
def test_ends_of_curves_of_which_some_lack_a_point(curves, text):
    assert real_tables.first_and_last([np.array(curve, dtype=float) for curve in curves]) == text


def test_page_without_runs_says_so():
    assert real_tables.headline_text(selection([]), []) == "Not run yet." and real_tables.sets_text(selection([])) == ""


def test_script_writes_tables_and_the_page_of_the_records_own_results(tmp_path, script, monkeypatch):
    page = tmp_path / "real_run.md"
    page.write_text("before\n<!-- results -->\nNot run yet.\n<!-- end -->\nafter\n")
    monkeypatch.setattr(real, "RESULTS", tmp_path / "record")
    monkeypatch.setattr(real, "PAGE", page)
    write_runs(tmp_path / "record" / "real" / "runs")
    rating = {"arm": "asl_gen_rm", "round": 1, "kept": True, "answerable": True, "answer_right": True, "hops": 2}
    write_jsonl(tmp_path / "record" / "real" / "ratings.jsonl", [rating])
    assert script("reproduce.real", "--dry-run") == 0 and "Not run" in page.read_text()
    assert script("reproduce.real") == 0
    text, whole = page.read_text(), (tmp_path / "record" / "real" / "REAL.md").read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "| asl_gen_rm | 1 | 1 | 100 (21 to" in text
    assert "## F1 by set and round" in whole and "## F1 by set" not in text
    before = page.read_text()
    write_runs(tmp_path / "other" / "real" / "runs", RUNS[:1])
    assert script("reproduce.real", "--results", tmp_path / "other") == 0 and page.read_text() == before


def test_chosen_are_the_rate_of_the_best_mean_and_at_that_rate_the_best_mode(tmp_path, script, capsys):
    finals = {1e-4: (0.10, 0.14), 3e-4: (0.20, 0.01), 5e-5: (0.11, 0.13)}
    for rate, (gen_rm, hybrid) in finals.items():
        runs = [real_run("asl_gen_rm", 0, 0.1, gen_rm, learning_rate=rate)]
        runs.append(real_run("asl_hybrid", 0, 0.1, hybrid, learning_rate=rate))
        write_runs(tmp_path / "real_choice" / f"rate_{rate}", runs)
    assert real.chosen(tmp_path / "real_choice") == (5e-5, "asl_hybrid")
    assert script("reproduce.real", "--choice", "--results", tmp_path) == 0
    assert "learning rate 5e-05, three seeds of asl_hybrid" in capsys.readouterr().out
    next((tmp_path / "real_choice" / "rate_0.0003").glob("*asl_hybrid*")).unlink()
    with pytest.raises(
        InputError, match=r"real_choice: rate_0.0003 lacks .*_asl_hybrid_seed0; `make reproduce PROFILE=real"
    ):
        real.chosen(tmp_path / "real_choice")
    with pytest.raises(InputError, match="nothing: holds no summaries; `make"):
        real.chosen(tmp_path / "nothing")


def test_what_the_model_can_do_before_the_loop_stands_in_percent_with_intervals():
    accuracy = {
        "mean": 0.2,
        "interval": [0.15, 0.26],
        "sets": {"all": {"em": [0.2, 0, 1]}, "nq": {"em": [0.1, 0, 0.3]}},
    }
    text = real_tables.before_text(
        {
            "accuracy": accuracy,
            "accuracy_greedy": accuracy | {"mean": 0.25},
            "grm": {"balanced_accuracy": 0.61, "by_kind": {"near_miss": 0.4}},
            "sampled": {"questions": 60, "samples": 16, "pass@1": 0.2, "pass@16": 0.5, "majority": 0.3},
            "roles": {"asked": 96, "well_formed": 0.9, "own_majority": None, "source_found": 0.8}
            | {"gate_share": 0.4, "vote_agreement": 0.7},
        }
    )
    assert (
        cells(text, "exact match, greedy")[1] == "25.0 (15.0 to 26.0)"
        and cells(text, "- nq")[1] == "10.0 (0.0 to 30.0)"
    )
    assert cells(text, "16 answers to each of 60 questions: the best")[1] == "50.0" and "- all" not in text
    assert cells(text, "- right on: near miss")[1] == "40.0" and cells(text, "well-formed tasks, of 96")[1] == "90.0"
    assert cells(text, "- whose most frequent answer of all attempts is the writer's own")[1] == "-"
