"""Rewards and selection rules, by hand-worked cases."""

import math
import random
from dataclasses import replace

import pytest
from helpers import make_episode

from asl_min import rewards
from asl_min.config import Config
from asl_min.episode import FinishReason, Task, Triple, Turn
from asl_min.recipes import asl


@pytest.mark.parametrize(
    ("verdicts", "value"),
    [
        ([True, False], math.log(2)),  # p = 1/2: ln 2 = 0.6931
        ([True, False, False, False], 0.562335),  # p = 1/4: 0.25 * 1.386294 + 0.75 * 0.287682
        ([True, True, True, False], 0.562335),  # the same by symmetry
        ([False, False], 0.0),
        ([True, True], 0.0),
        ([], 0.0),
    ],
)
def test_entropy(verdicts, value):
    assert asl.entropy(verdicts) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("votes", "passes"),
    [([1, 1, 1, 1, 0], True), ([1, 1, 1, 0, 0], False), ([1] * 5, True), ([1] * 12 + [0] * 3, True), ([], False)],
)
def test_verify_gate_at_four_fifths(votes, passes):
    assert asl.Recipe(Config(verify_threshold=0.8)).verified([bool(v) for v in votes]) is passes


@pytest.mark.parametrize(("right_votes", "reward"), [(4, math.log(2)), (3, 0.0)])
def test_task_reward_is_the_entropy_where_the_gate_passes(right_votes, reward):
    votes = (True,) * right_votes + (False,) * (5 - right_votes)
    task = Task("q", "a", votes=votes, verdicts=(True, False))
    assert asl.Recipe(Config(verify_threshold=0.8)).task_rewards([task], []) == pytest.approx([reward])


@pytest.mark.parametrize(
    ("verdict", "label", "reward"),
    [
        (True, True, 1.0),
        (False, False, 1.0),
        (True, False, 0.0),
        (False, True, 0.0),
        (None, False, 0.0),
        (None, True, 0.0),
    ],
)
def test_label_reward(verdict, label, reward):
    assert rewards.label_reward(verdict, label) == reward


@pytest.mark.parametrize(("verdict", "reward"), [(True, 1.0), (False, 0.0), (None, 0.0)])
def test_verdict_reward(verdict, reward):
    assert rewards.verdict_reward(verdict) == reward


THINK, PLAIN = "<think>a</think>b", "b"


@pytest.mark.parametrize(
    ("turns", "bonus"),
    [
        ([Turn(THINK, ("q",), "r"), Turn(THINK)], 0.5),  # (1 + 1) / 4
        ([Turn(THINK, ("q",), "r"), Turn(PLAIN)], 0.375),  # (1/2 + 1) / 4
        ([Turn(THINK)], 0.25),  # (1 + 0) / 4
        ([Turn(THINK, (), "error: ...")], 0.25),  # a malformed call is no use of the tool
        ([Turn(PLAIN)], 0.0),
        ([], 0.0),
    ],
)
def test_format_bonus(turns, bonus):
    assert rewards.format_bonus(replace(make_episode(0, 4, [3]), turns=tuple(turns))) == bonus


def triples(question: str, labels: str) -> list[dict]:
    return [Triple(question, str(i), label=label == "+") for i, label in enumerate(labels)]


def test_balanced_keeps_the_rarer_label_whole_and_as_many_of_the_other():
    kept = rewards.balanced(triples("q", "-+--+-"), random.Random(0))
    assert sorted(t.answer for t in kept if t.label) == ["1", "4"]
    assert sum(not t.label for t in kept) == 2


def test_balanced_drops_questions_with_one_label():
    kept = rewards.balanced(
        triples("all right", "+++") + triples("both", "+-") + triples("all wrong", "--"), random.Random(0)
    )
    assert [t.question for t in kept] == ["both", "both"]


def test_balanced_counts_each_question_by_itself():
    kept = rewards.balanced(triples("a", "+---") + triples("b", "+++-"), random.Random(0))
    assert sorted((t.question, t.label) for t in kept) == [("a", False), ("a", True), ("b", False), ("b", True)]


def test_balanced_draws_by_seed():
    data = triples("q", "+" + "-" * 20)
    draws = [rewards.balanced(data, random.Random(seed)) for seed in (0, 0, 1, 2)]
    assert draws[0] == draws[1] and any(draw != draws[0] for draw in draws[2:])


def label(source: str, **triple) -> bool | None:
    return asl.Recipe(Config(grm_labels=source)).label(Triple("q", reference="Paris", **triple))


def test_label_self_is_the_verdict():
    assert label("self", answer="Paris", verdict=False) is False


@pytest.mark.parametrize(("answer", "right"), [("the paris.", True), ("Rome", False)])
def test_label_reference_is_the_match_with_the_tasks_own_answer(answer, right):
    assert label("reference", answer=answer, verdict=not right, verified=True) is right
    assert label("reference", answer=answer, verdict=not right, verified=False) is None  # left out


def test_distinct_keeps_the_first_of_each_normalised_question():
    tasks = [Task(question, str(n)) for n, question in enumerate(["Where is the UK?", "where is UK", "Where is Peru?"])]
    assert [task.answer for task in rewards.distinct(tasks)] == ["0", "2"]


def test_groups_are_neighbours():
    assert rewards.by_prompt("abcdef", 2) == [["a", "b"], ["c", "d"], ["e", "f"]] and rewards.by_prompt([], 2) == []


def test_matched_is_unknown_without_an_answer():
    assert rewards.matched(["the Paris", "Rome", None], ["paris"]) == [True, False, None]


# The window is 8, so the latest four are compared with the four before, and the latest two with the two before.
# Series are given oldest first.


def test_rising_rewards_are_no_plateau():
    # halves: 2.6 against 1.0 in sum, quarters: 1.4 against 1.2
    assert not rewards.plateaued([0.1, 0.2, 0.3, 0.4, 0.6, 0.6, 0.7, 0.7], 8, 0.005)


def test_flat_rewards_are_a_plateau():
    assert rewards.plateaued([0.5] * 8, 8, 0.005)


def test_falling_rewards_are_a_plateau():
    assert rewards.plateaued([0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], 8, 0.005)


def test_gain_of_the_halves_alone_prevents_a_plateau():
    # halves: 4 * 0.5 against 4 * 0.4, a gain of 0.25; quarters: 0.4 + 0.4 against 0.6 + 0.6, a loss
    assert not rewards.plateaued([0.4, 0.4, 0.4, 0.4, 0.6, 0.6, 0.4, 0.4], 8, 0.005)


def test_gain_of_the_quarters_alone_prevents_a_plateau():
    # halves: 0.4 + 0.4 + 0.6 + 0.6 against 4 * 0.6, a loss; quarters: 1.2 against 0.8, a gain of 0.5
    assert not rewards.plateaued([0.6, 0.6, 0.6, 0.6, 0.4, 0.4, 0.6, 0.6], 8, 0.005)


@pytest.mark.parametrize(("last", "plateau"), [(1.004, True), (1.006, False)])
def test_plateau_threshold_is_relative(last, plateau):
    # both gains are last / 1 - 1 for the quarters and half of that for the halves; the halves stay below 0.005 in both
    # cases
    assert rewards.plateaued([1.0] * 6 + [last] * 2, 8, 0.005) is plateau


def test_no_plateau_before_the_window_is_full():
    assert not rewards.plateaued([0.5] * 7, 8, 0.005)


def test_only_the_latest_window_is_looked_at():
    rising = [0.1, 0.2, 0.3, 0.4, 0.6, 0.6, 0.7, 0.7]
    assert rewards.plateaued([*rising, *[0.5] * 8], 8, 0.005)
    assert not rewards.plateaued([*[0.5] * 8, *rising], 8, 0.005)


def test_rewards_of_zero_are_a_plateau():
    assert rewards.plateaued([0.0] * 8, 8, 0.005)


@pytest.mark.parametrize(
    ("accuracy", "round_number", "direction", "way"),
    [
        (0.5, 1, "harder", "width"),
        (0.49, 4, "easier", "width"),
        (1.0, 5, "harder", "depth"),
        (0.0, 5, "easier", "depth"),
    ],
)
def test_next_meta_prompt(accuracy, round_number, direction, way):
    assert rewards.next_meta_prompt("Where?", accuracy, round_number, 4) == {
        "prompt": "task_from_question",
        "fields": {"direction": direction, "way": way, "question": "Where?"},
    }


def test_finish_shares_add_up_to_one():
    episodes = [
        replace(make_episode(i, 4, [3]), finish_reason=stop)
        for i, stop in enumerate([FinishReason.ANSWER, FinishReason.ANSWER, FinishReason.END, FinishReason.MAX_TURNS])
    ]
    shares = rewards.finish_shares(episodes)
    assert shares == {
        "finish_answer": 0.5,
        "finish_end": 0.25,
        "finish_turn_length": 0.0,
        "finish_max_turns": 0.25,
        "finish_max_tokens": 0.0,
    }
