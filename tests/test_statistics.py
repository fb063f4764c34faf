"""Statistics against hand-worked values."""

import numpy as np
import pytest

from reproduce import statistics as s


def test_estimate_by_hand():
    # mean 4, standard deviation 2, t(0.975, 2) = 4.3027: half width 4.3027 * 2 / sqrt 3; t = 4 / (2 / sqrt 3) = 3.4641,
    # of which p with 2 degrees of freedom is 1 - t / sqrt(t^2 + 2) = 1 - sqrt(12 / 14)
    found = s.estimate([2, 4, 6])
    assert (found.mean, found.high - 4, 4 - found.low) == pytest.approx((4, 4.9683, 4.9683), abs=1e-4)
    assert found.p == pytest.approx(1 - np.sqrt(12 / 14)) and found.n == 3
    assert s.estimate([2, 4, 6], threshold=4).p == pytest.approx(1)


def test_one_value_has_no_interval():
    found = s.estimate([5])
    assert (found.mean, found.low, found.high, found.n) == (5, -np.inf, np.inf, 1) and np.isnan(found.p)


def test_without_spread_the_mean_is_known():
    assert s.estimate([1, 1, 1]).p == 0 and s.estimate([1, 1, 1], threshold=1).p == 1


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.2: times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.2
    assert s.holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])


def test_holm_never_falls_below_a_smaller_p_and_never_exceeds_one():
    # times 3, 2, 1 = 0.12, 0.1 -> 0.12, 0.9
    assert s.holm([0.9, 0.05, 0.04]) == pytest.approx([0.9, 0.12, 0.12])
    assert s.holm([0.6, 0.7]) == [1, 1]


def test_holm_counts_what_was_not_measured():
    assert s.holm([0.01, np.nan, np.nan]) == pytest.approx([0.03, 1, 1])
    assert s.holm([]) == []


def test_regression_by_hand():
    # y = 1, 3, 4, 8 at x = 0 to 3: slope 2.2, constant 0.7, residuals 0.3, 0.1, -1.1, 0.7, their squares 1.8 / 2
    # degrees of freedom = 0.9; standard error of the slope sqrt(0.9 / 5), of the constant sqrt(0.9 * (1/4 + 2.25 / 5))
    fit = s.regress(np.arange(4.0).reshape(-1, 1), np.array([1.0, 3, 4, 8]))
    assert fit.coefficients == pytest.approx([0.7, 2.2])
    half = 4.30265 * np.sqrt(0.9 / 5)
    assert fit.slope(0) == pytest.approx((2.2, 2.2 - half, 2.2 + half), abs=1e-4)
    half = 4.30265 * np.sqrt(0.9 * 0.7)
    assert fit.interval(0.0) == pytest.approx((0.7, 0.7 - half, 0.7 + half), abs=1e-4)
    t = 2.2 / np.sqrt(0.9 / 5)
    assert fit.p[1] == pytest.approx(1 - t / np.sqrt(t**2 + 2))


def test_regression_that_is_not_determined_is_none():
    x = np.arange(4.0)
    assert s.regress(x[:3].reshape(-1, 1), x[:3]) is None
    assert s.regress(np.column_stack([x, 2 * x]), x) is None
    assert s.regress(np.ones((4, 1)), x) is None


def test_error_of_the_base_left_out_by_hand():
    # without variables the others' mean: (0 - 4.5), (3 - 3), (6 - 1.5)
    nothing = np.empty((3, 0))
    assert s.left_out_error(nothing, np.array([0.0, 3, 6])) == pytest.approx(np.sqrt((4.5**2 + 4.5**2) / 3))
    line = np.array([[0.0], [1], [2], [3]])
    assert s.left_out_error(line, 2 * line[:, 0] + 1) == pytest.approx(0)
    assert np.isnan(s.left_out_error(np.array([[0.0], [1]]), np.array([0.0, 1])))
    assert np.isnan(s.left_out_error(nothing[:0], np.array([])))


@pytest.mark.parametrize(
    ("gains", "at"), [([-2, -1, 0, 1], 62), ([1, 2, 3, 4], 59), ([4, 3, 2, 1], -np.inf), ([1, 0, -1, -2], np.inf)]
)
def test_line_lifts_off_where_it_crosses_zero(gains, at):
    assert s.lift_off(np.array([60.0, 61, 62, 63]), np.array(gains)) == pytest.approx(at)


@pytest.mark.parametrize(
    ("gains", "at"), [([1, 0, -1, -2], 61), ([4, 3, 2, 1], None), ([-1, -2, -3, -4], None), ([-2, -1, 0, 1], None)]
)
def test_line_that_falls_through_zero_is_above_up_to_there(gains, at):
    assert s.falls_at(np.array([60.0, 61, 62, 63]), np.array(gains)) == (at and pytest.approx(at))


def test_interval_of_the_lift_off_holds_the_line_that_made_the_bases():
    rng = np.random.default_rng(1)
    judge = rng.uniform(50, 90, 20)
    at, low, high = s.lift_off_interval(judge, judge - 70 + rng.normal(0, 3, 20))
    assert low < 70 < high and low < at < high and high - low < 6
    assert s.lift_off_interval(judge, judge - 70) == pytest.approx((70, 70, 70))
    assert s.lift_off_interval(judge[:3], judge[:3]) is None and s.lift_off_interval(np.ones(5), judge[:5]) is None


def test_interval_is_unbounded_where_the_line_hardly_rises():
    rng = np.random.default_rng(2)
    judge = rng.uniform(50, 90, 12)
    _, low, high = s.lift_off_interval(judge, rng.normal(0, 5, 12))
    assert not np.isfinite(high) or not np.isfinite(low) or high - low > 40
