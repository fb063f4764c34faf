"""Rewards and selection rules, by hand-worked cases."""

import math
import random
from dataclasses import replace

import pytest
from helpers import make_episode

from asl_min import rewards
from asl_min.config import Config
from asl_min.episode import FinishReason, Task, Triple, Turn
from asl_min.recipes import asl_gen_rm, asl_hybrid, asl_rule


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
    assert asl_gen_rm.entropy(verdicts) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("votes", "passes"),
    [([1, 1, 1, 1, 0], True), ([1, 1, 1, 0, 0], False), ([1] * 5, True), ([1] * 12 + [0] * 3, True), ([], False)],
)
def test_verify_gate_at_four_fifths(votes, passes):
    assert asl_gen_rm.Recipe(Config(verify_threshold=0.8)).verified([bool(v) for v in votes]) is passes


@pytest.mark.parametrize(("verified", "reward"), [(True, math.log(2)), (False, 0.0)])
def test_task_reward_is_the_entropy_where_the_gate_passes(verified, reward):
    task = Task("q", "a", verified=verified, verdicts=(True, False))
    assert asl_gen_rm.Recipe(Config()).task_rewards([task], []) == pytest.approx([reward])


@pytest.mark.parametrize(
    ("question", "reward", "kept"),
    [
        ("Which town is nearest?", 0.1, True),
        ("Which town is nearest?", 0.0, False),
        ("Which town is near?", 0.1, False),  # 19 characters
        ("Which town is nearest? ", 0.1, False),
    ],
)
def test_task_is_kept_if_it_earns_something_and_reads_like_a_question(question, reward, kept):
    assert asl_gen_rm.Recipe(Config()).keeps(Task(question, "a", reward=reward)) is kept


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


def label(mode, **triple) -> bool | None:
    return mode.Recipe(Config()).label(Triple("q", reference="Paris", **triple))


@pytest.mark.parametrize("mode", [asl_gen_rm, asl_rule])
def test_label_of_the_released_modes_is_what_was_said_in_phase_1(mode):
    assert label(mode, answer="Paris", verdict=False) is False
    assert label(mode, answer="Rome", verdict=True, verified=False) is True


@pytest.mark.parametrize(("answer", "right"), [("the paris.", True), ("Rome", False), ("Paris, France", False)])
def test_label_of_the_hybrid_mode_is_the_match_with_the_tasks_own_answer(answer, right):
    assert label(asl_hybrid, answer=answer, verdict=not right, verified=True) is right
    assert label(asl_hybrid, answer=answer, verdict=not right, verified=False) is None  # left out


@pytest.mark.parametrize(
    ("answer", "key", "right"),
    [
        ("It is the Paris, France.", "Paris", True),
        ("Parisian", "Paris", True),
        ("Par", "Paris", False),
        ("x", "?", False),
    ],
)
def test_rule_mode_asks_whether_the_attempt_contains_the_tasks_answer(answer, key, right):
    assert asl_rule.Recipe(Config()).matches(answer, [key]) is right


def test_distinct_keeps_the_first_of_each_normalised_question():
    tasks = [Task(question, str(n)) for n, question in enumerate(["Where is the UK?", "where is UK", "Where is Peru?"])]
    assert [task.answer for task in rewards.distinct(tasks).values()] == ["0", "2"]


def test_groups_are_neighbours():
    assert rewards.by_prompt("abcdef", 2) == [["a", "b"], ["c", "d"], ["e", "f"]] and rewards.by_prompt([], 2) == []


def test_matched_is_unknown_without_an_answer():
    found = rewards.matched(["the Paris", "Rome", None], ["paris"], rewards.exact_match)
    assert found == [True, False, None]


def test_majority_is_the_most_frequent_normalised_answer_as_it_was_first_written():
    assert rewards.majority(["Rome", "the Paris.", None, "paris", None, None]) == "the Paris."
    assert rewards.majority(["Rome", "Paris"]) == "Rome"  # the first of equals
    assert rewards.majority([None, None]) is None


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


def outcomes(*verdicts: bool | None) -> list[dict]:
    return [{"answer": "Rome" if v else "Oslo" if v is False else None, "verdict": v} for v in verdicts]


@pytest.mark.parametrize(
    ("verdicts", "direction"),
    [((True, False), "harder"), ((True, False, None), "easier"), ((True,), "harder"), ((None,), "easier")],
)
def test_next_meta_prompt_is_harder_from_half_on(verdicts, direction):
    assert rewards.next_meta_prompt(Task("Where?", "Rome"), outcomes(*verdicts), "depth", False) == {
        "prompt": "task_from_question",
        "fields": {"direction": direction, "way": "depth", "question": "Where?"},
    }


@pytest.mark.parametrize(
    ("verdicts", "attempted"), [((True, False, False), "Oslo"), ((True, None, None), "Rome"), ((None,), "none")]
)
def test_next_meta_prompt_with_results_shows_the_answer_and_that_of_most_attempts(verdicts, attempted):
    found = rewards.next_meta_prompt(Task("Where?", "rome"), outcomes(*verdicts), "width", True)
    fields = {"direction": "easier", "way": "width", "question": "Where?", "answer": "rome", "attempted": attempted}
    assert found == {"prompt": "task_from_result", "fields": fields}


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
