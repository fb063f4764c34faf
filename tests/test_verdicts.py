"""Effects and verdicts on made-up runs with known answers, and with arms missing."""

import dataclasses

import numpy as np
import pytest
from made_up import gains, runs_of, summary

from reproduce import verdicts
from reproduce.designs import Claim, Part
from reproduce.effects import effects, seeds, unmeasured

GAIN = Part("gain", ("asl",))
RISING = {f"b{n:02}": 50.0 + 5 * n for n in range(1, 13)}
"""A moderator that rises from 55 to 110 over twelve bases."""
NOISE = (0.3, -0.2, 0.1, -0.4, 0.2, 0.0, -0.1, 0.4, -0.3, 0.1, 0.2, -0.3)


def claim(id: str, *parts: Part) -> Claim:
    return Claim(id, "…", parts or (GAIN,))


def concluded(runs, *claims, moderators=None):
    return verdicts.conclude(list(claims) or [claim("C")], runs, moderators or {})


# --- effects


def test_effect_of_a_base_is_the_mean_over_its_seeds():
    runs = runs_of(gains("asl", [10, 20]), gains("asl", [14], seed=1))
    assert effects(GAIN, runs) == pytest.approx({"b01": 12, "b02": 20}) and seeds(GAIN, runs) == 1


def test_arms_are_paired_by_base():
    runs = runs_of(gains("asl", [50, 10, 70, 5]), gains("frozen_grm", [45, 4, 66]))
    part = Part("final", ("asl",), ("frozen_grm",))
    assert effects(part, runs) == pytest.approx({"b01": 5, "b02": 6, "b03": 4})
    assert concluded(runs, claim("C6", part))[0].verdict == "holds"  # though each arm spreads over 60 points
    assert effects(Part("final", ("asl",), ("r_zero",)), runs) == {}


def test_of_several_others_the_best_of_the_base_counts():
    runs = runs_of(gains("asl", [20, 20]), gains("r_zero", [10, 30]), gains("absolute_zero", [15, 5]))
    part = Part("final", ("asl",), ("r_zero", "absolute_zero"))
    assert effects(part, runs) == pytest.approx({"b01": 5, "b02": -10})


def test_what_was_not_measured_is_left_out():
    runs = runs_of(gains("asl", [10]), [summary("b02", "asl", 0, 0.3, 0.5, frozen=None)])
    assert effects(Part("harder", ("asl",)), runs) == {}  # one round has no slope
    three = [summary("b01", "asl", 0, 0.3, 0.4, 0.5), summary("b02", "asl", 0, 0.3, 0.4, 0.5, frozen=None)]
    assert effects(Part("harder", ("asl",)), runs_of(three)) == pytest.approx({"b01": 10})


def test_base_without_a_measurement_is_named_and_an_unmeasured_rival_drops_it_in_any_order():
    """One round has no slope of difficulty."""
    part = Part("harder", ("asl",))
    assert unmeasured(part, runs_of(gains("asl", [5]))) == ["b01"] and not unmeasured(GAIN, runs_of(gains("asl", [5])))
    runs = runs_of(gains("asl", [10]), gains("x", [5]), gains("y", [6]))
    runs["x"]["b01"][0]["rounds"][-1]["accuracy"]["mean"] = None
    for less in (("x", "y"), ("y", "x")):
        assert effects(Part("final", ("asl",), less), runs) == {}
        assert unmeasured(Part("final", ("asl",), less), runs) == ["b01"]


def test_data_scale_is_a_slope_per_doubling():
    levels = {"data_4": (4, 0.40), "data_12": (12, 0.40 + 0.02 * np.log2(3)), "asl": (0, 0.40 + 0.02 * np.log2(25))}
    runs = runs_of([summary("b01", arm, 0, 0.3, end, config={"policy_tasks": n}) for arm, (n, end) in levels.items()])
    assert effects(Part("per_doubling", ("data_4", "data_12", "asl")), runs) == pytest.approx({"b01": 2})


def test_equal_budget_is_the_least_that_was_spent():
    cheap = summary("b01", "r_zero", 0, 0.2, 0.4, tokens=2500)  # mean up to its end: 30
    dear = summary("b01", "asl", 0, 0.2, 0.6)  # at half of its budget it is at 40: mean up to there 30
    assert effects(Part("mean_over_tokens", ("asl",), ("r_zero",)), runs_of([cheap, dear])) == pytest.approx({"b01": 0})
    assert effects(Part("mean_over_rollouts", ("asl",), ("r_zero",)), runs_of([cheap, dear])) == pytest.approx(
        {"b01": 10}
    )


# --- verdicts


@pytest.mark.parametrize(
    ("points", "above", "verdict"),
    [
        ([4, 5, 6, 5], 0, "holds"),
        ([-4, -5, -6, -5], 0, "does not hold"),
        ([4, 5, 6, 5], 10, "does not hold"),  # positive, but wholly below what was asked for
        ([-6, 8, -2, 9], 0, "undecided"),
        ([5], 0, "undecided"),
    ],
)
def test_verdict_by_interval_and_threshold(points, above, verdict):
    found = concluded(runs_of(gains("asl", points)), claim("C", dataclasses.replace(GAIN, above=above)))[0]
    assert found.verdict == verdict and found.findings[0].estimate.n == len(points)


def test_claim_whose_arm_is_missing_is_not_run_and_counts_in_the_family():
    runs = runs_of(gains("asl", [4, 5, 6, 5]))
    alone = concluded(runs)[0].holm_p
    found = concluded(runs, claim("C3"), claim("C6", Part("final", ("asl",), ("frozen_grm",))), claim("C9", GAIN))
    assert [c.verdict for c in found] == ["holds", "not run", "holds"]
    assert found[0].holm_p == pytest.approx(3 * alone)


def test_what_is_lost_by_holm_is_undecided():
    # t(3) = 3.4641 (mean 4, standard error 1.1547): p = 0.0405, below 0.05 alone but not in a family of two
    runs = runs_of(gains("asl", [2, 6, 2, 6]))
    assert concluded(runs)[0].verdict == "holds"
    found = concluded(runs, claim("C3"), claim("C4", Part("final", ("nobody",))))
    assert found[0].verdict == "undecided" and found[0].findings[0].verdict == "holds"
    assert found[0].holm_p == pytest.approx(2 * 0.0405, abs=1e-3)


def test_claim_holds_only_with_all_its_parts_and_shows_the_worst():
    runs = runs_of(
        gains("asl", [20, 21, 22, 23]), gains("r_zero", [5, 6, 4, 5]), gains("search_r1_64", [30, 33, 31, 32])
    )
    parts = [Part("final", ("asl",), (other,)) for other in ("r_zero", "search_r1_64")]
    found = concluded(runs, claim("C9", *parts))[0]
    assert [f.verdict for f in found.findings] == ["holds", "does not hold"] and found.verdict == "does not hold"
    assert found.decisive.part == parts[1] and found.holm_p == max(f.p for f in found.findings)


# --- depends


def over_twelve(line) -> dict:
    return runs_of(gains("asl", [line(value) + noise for value, noise in zip(RISING.values(), NOISE, strict=True)]))


def test_effect_that_changes_sign_along_a_moderator_depends_on_it():
    found = concluded(over_twelve(lambda judge: judge - 75), moderators={"judge": RISING})[0]
    depends = found.findings[0].dependence
    assert found.verdict == "depends" and (depends.moderator, depends.rising) == ("judge", True)
    assert depends.at == pytest.approx(75, abs=0.5)


def test_depends_is_asked_before_holds_and_does_not_hold():
    """The mean over bases is clearly above (below) 0, and yet a fifth of the bases loses (gains)."""
    for at, without in ((66, "holds"), (99, "does not hold")):
        runs = over_twelve(lambda judge, at=at: judge - at)
        assert concluded(runs)[0].verdict == without
        assert concluded(runs, moderators={"judge": RISING})[0].verdict == "depends"


def test_steep_slope_on_one_side_of_the_threshold_is_no_dependence():
    assert concluded(over_twelve(lambda judge: judge - 50), moderators={"judge": RISING})[0].verdict == "holds"
    assert concluded(over_twelve(lambda judge: judge - 120), moderators={"judge": RISING})[0].verdict == "does not hold"


def test_only_the_middle_of_the_population_counts():
    """The line crosses 0 at 57, between the worst base and the 10th percentile (60.5)."""
    assert concluded(over_twelve(lambda judge: judge - 57), moderators={"judge": RISING})[0].verdict == "holds"


def test_falling_slope_says_up_to_where():
    found = concluded(over_twelve(lambda writer: 80 - writer), moderators={"writer": RISING})[0].findings[0].dependence
    assert not found.rising and found.at == pytest.approx(80, abs=0.5)


def test_moderator_that_does_not_matter_is_not_named():
    other = {base: 50.0 + (7 * n) % 13 for n, base in enumerate(RISING)}
    found = concluded(over_twelve(lambda judge: judge - 75), moderators={"writer": other, "judge": RISING})[0]
    assert found.findings[0].dependence.moderator == "judge"


def test_slopes_are_corrected_for_the_number_of_moderators():
    """A slope of p = 0.045 counts alone, but not as one of two."""
    found = {base: (judge - 82.5) / 5 + 4 * (-1) ** n for n, (base, judge) in enumerate(RISING.items())}
    other = {base: (1.0, -1.0, -1.0, 1.0)[n % 4] for n, base in enumerate(RISING)}
    assert verdicts.dependence(found, {"judge": RISING}, 0.0).p == pytest.approx(0.0446, abs=1e-4)
    assert verdicts.dependence(found, {"judge": RISING, "writer": other}, 0.0) is None


def test_too_few_bases_with_measures_are_not_asked():
    runs = over_twelve(lambda judge: judge - 75)
    few = {base: value for base, value in RISING.items() if base <= "b03"}
    assert concluded(runs, moderators={"judge": few})[0].verdict == concluded(runs)[0].verdict
    assert verdicts.dependence(effects(GAIN, runs), {"judge": {}}, 0.0) is None


def test_claim_with_a_part_that_depends_depends_unless_another_is_worse():
    judge = over_twelve(lambda value: value - 75)["asl"]
    for points, verdict in ((20, "depends"), (-20, "does not hold")):
        runs = {"asl": judge} | runs_of(gains("other", [points + noise for noise in NOISE]))
        found = concluded(runs, claim("C", GAIN, Part("gain", ("other",))), moderators={"judge": RISING})
        assert found[0].verdict == verdict


def test_errors_are_as_rare_as_they_are_said_to_be():
    """Effects that are 0 on average and depend on nothing, on twelve bases with three moderators: "depends" one time in
    twenty, "holds" and "does not hold" one in forty each."""
    rng, said = np.random.default_rng(0), []
    for _ in range(400):
        values = rng.normal(70, 10, (3, 12))
        moderators = {f"m{i}": dict(zip(RISING, row, strict=True)) for i, row in enumerate(values)}
        said.append(verdicts.judge(GAIN, runs_of(gains("asl", rng.normal(0, 5, 12))), moderators).verdict)
    shares = {verdict: said.count(verdict) / len(said) for verdict in verdicts.WORST_FIRST}
    assert shares["depends"] == pytest.approx(0.05, abs=0.025)
    assert shares["holds"] == pytest.approx(0.025, abs=0.02) == shares["does not hold"]
