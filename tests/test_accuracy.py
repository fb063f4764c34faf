"""Macro averages, strata, pass@k and the majority, by hand-worked rows."""

from dataclasses import replace

import pytest

from asl_min.metrics.accuracy import (
    Answer,
    accuracy,
    agreement,
    bootstrap,
    groups_of,
    macro,
    measures,
    pass_at,
    sampled_accuracy,
)

PLAIN = Answer("1", "Where?", 1, None, None, None, None, ["Rome"], "Rome", True, 1, "answer", [], [], None)


def row(right: bool, relation: str | None = None, **values) -> Answer:
    return replace(PLAIN, relation=relation, right=right, answer="Rome" if right else "Oslo", **values)


def test_macro_is_the_mean_over_relations_and_not_over_questions():
    answers = [row(True, "capital"), row(False, "capital"), row(False, "capital"), row(True, "river")]
    assert macro(answers) == pytest.approx((1 / 3 + 1) / 2)
    assert macro(answers, [0, 0, 3, 1]) == pytest.approx((1 + 1) / 2)


def test_macro_is_over_hops_where_some_question_names_no_relation():
    answers = [row(True, "capital", hops=1), row(False, hops=2), row(False, "river", hops=2), row(True, hops=2)]
    assert macro(answers) == pytest.approx((1 + 1 / 3) / 2)


def test_macro_is_the_plain_mean_where_nothing_is_known():
    answers = [row(right, hops=None) for right in (True, False, False, False)]
    assert macro(answers) == 0.25 and len(groups_of(answers)) == 1


def test_accuracy_by_hops_and_strata_is_macro_too():
    answers = [
        row(True, "capital", hops=1, phrasing="seen", path_kind="seen"),
        row(False, "capital", hops=1, phrasing="held_out", path_kind="seen"),
        row(False, "capital", hops=2, phrasing="seen", path_kind="seen"),
        row(True, "river", hops=2, phrasing="seen", path_kind="held_out", finish_reason="end"),
        row(True, "river", hops=2, phrasing="held_out", path_kind="held_out"),
    ]
    found = accuracy(answers)
    assert found.pop("interval")[0] <= found["mean"]
    assert found == {
        "hop1": 0.5,
        "hop2": 0.5,  # capital 0, river 1
        "mean": pytest.approx((1 / 3 + 1) / 2),
        "seen": 0.5,  # capital alone
        "held_out_phrasing": 0.5,  # capital 0, river 1
        "held_out_path": 1.0,
        "answered": 0.8,
    }


def test_strata_without_questions_are_left_out():
    assert set(accuracy([row(True)])) == {"hop1", "mean", "interval", "answered"}


def test_interval_of_groups_without_spread_is_a_point():
    assert bootstrap([[True] * 5, [False] * 9]) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("k", "right", "chance"),
    [(1, 1, 0.25), (2, 1, 0.5), (2, 2, 1 - 1 / 6), (4, 1, 1.0), (4, 0, 0.0), (3, 2, 1.0)],
)
def test_pass_at_k_of_four_answers(k, right, chance):
    assert pass_at(k, 4, right) == pytest.approx(chance)


def test_sampled_accuracy_of_two_questions():
    said = {"a": ["Rome", "rome", "Oslo", None], "b": ["Oslo", "Rome", "Oslo", "Bern"]}
    samples = [
        [replace(PLAIN, relation=name, answer=answer, right=(answer or "").lower() == "rome") for answer in answers]
        for name, answers in said.items()
    ]
    found = sampled_accuracy(samples)
    assert found == {
        "pass@1": pytest.approx((2 / 4 + 1 / 4) / 2),
        "pass@2": pytest.approx((1 - 1 / 6 + 1 / 2) / 2),
        "pass@4": 1.0,
        "majority": 0.5,  # Rome of a, Oslo of b
        "agreement": 0.5,
    }
    assert set(sampled_accuracy([own[:3] for own in samples])) >= {"pass@1", "pass@2", "pass@3"}


def test_answers_that_are_missing_agree_with_nothing():
    assert agreement([None, "x", "X", None]) == 0.5 and agreement([None, None]) == 0.0


def test_macro_average_over_sets_of_questions_where_no_relation_is_named():
    right = [replace(PLAIN, dataset="nq", right=r) for r in (True, False, False, False)]
    found = accuracy([*right, replace(PLAIN, dataset="ours", right=True)])
    assert (found["mean"], found["nq"], found["ours"]) == (0.625, 0.25, 1.0)


def test_measures_by_set_with_the_mean_of_the_sets_and_intervals_over_questions():
    said = [("nq", "Rome", 2), ("nq", "old Rome", 4), ("nq", None, 0), ("ours", "Oslo", 1)]
    answers = [
        replace(PLAIN, dataset=dataset, answer=answer, right=answer == "Rome", tool_calls=calls, found_pages=True)
        for dataset, answer, calls in said
    ]
    found = measures(answers)
    assert found["sub_em"] == pytest.approx(1 / 3) and found["f1"] == pytest.approx((1 + 2 / 3) / 3 / 2)
    assert found["searches"] == pytest.approx(1.5) and list(found["sets"]) == ["all", "nq", "ours"]
    assert found["sets"]["nq"]["em"] == [pytest.approx(1 / 3), 0, 1]
    assert found["sets"]["all"]["em"] == [pytest.approx(1 / 6), 0, 0.5]
    assert found["sets"]["ours"]["searches"] == [1, 1, 1] == found["sets"]["nq"]["found_pages"]


def test_measures_leave_out_what_is_not_known_of_all():
    found = measures([replace(PLAIN, dataset="nq", found_pages=True), replace(PLAIN, found_pages=None)])
    assert found == {"sub_em": 1, "f1": 1, "searches": 1}
