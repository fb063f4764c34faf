"""What one run measured, on made-up summaries with known answers."""

import numpy as np
import pytest
from made_up import summary

from reproduce import measures as m


def test_slope_leaves_out_what_was_not_measured():
    run = summary("b01", "asl", 0, 0.3, 0.4, 0.5, 0.6)
    assert m.harder(run) == pytest.approx(10)  # measured from round 1 on
    assert m.slope(run) == pytest.approx(10) and np.isnan(m.slope(summary("b01", "asl", 0, 0.3)))


def test_what_is_asked_after_a_round_needs_a_later_one():
    assert np.isnan(m.gain_after_first(summary("b01", "asl", 0, 0.3, 0.4)))
    assert m.gain_after_first(summary("b01", "asl", 0, 0.3, 0.4, 0.6)) == pytest.approx(20)
    assert m.last_gain(summary("b01", "asl", 0, 0.3, 0.4, 0.6)) == pytest.approx(20)


def test_judge_on_wrong_answers_is_averaged_over_their_kinds():
    run = summary("b01", "asl", 0, 0.3, 0.4)
    kinds = {"right": 0.2, "right in other words": 0.1, "near miss": 0.5, "other fact": 0.6}
    for row, more in zip(run["rounds"], (0, 0.1), strict=True):
        row["grm"]["by_kind"] = {kind: value + more * (kind != "other fact") for kind, value in kinds.items()}
    assert m.judge_gain_on_wrong(run) == pytest.approx(5)
    run["rounds"][0]["grm"] = run["rounds"][1]["grm"] = None
    assert np.isnan(m.judge_gain_on_wrong(run)) and np.isnan(m.judge_gain(run))


def test_hacking_is_what_the_judge_pays_too_much_and_how_it_grows():
    run = summary("b01", "frozen_grm", 0, 0.3, 0.3, 0.3)
    for row, (paid, true, sound) in zip(run["rounds"][1:], ((0.5, 0.45, 0.9), (0.8, 0.4, 0.7)), strict=True):
        row["phase"] = {"judge_reward": paid, "true_accuracy": true, "kept": {"right": sound}}
    assert (m.overpaid(run), m.overpaid_growth(run), m.sound_tasks(run)) == pytest.approx((40, 35, 80))
    run["rounds"][2]["phase"]["kept"]["right"] = None
    assert m.sound_tasks(run) == pytest.approx(90)


def test_mean_accuracy_is_the_area_under_the_curve():
    run = summary("b01", "asl", 0, 0.2, 0.4, 0.6)
    assert m.mean_accuracy(run, "rollouts", 2000) == pytest.approx(40)
    assert m.mean_accuracy(run, "rollouts", 1000) == pytest.approx(30)
    del run["rounds"][1]["rollouts"]
    assert np.isnan(m.spent(run, "rollouts")[-1]) and np.isnan(m.mean_accuracy(run, "rollouts", np.nan))
