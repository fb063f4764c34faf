"""Rewards of the systems beside ASL, by hand-worked cases."""

import math
from dataclasses import replace

import pytest
from helpers import make_episode

from asl_min import baselines
from asl_min.episode import Turn

YES, NO = True, False


@pytest.mark.parametrize(
    ("hits", "formed", "reward"),
    [
        ([YES] + [NO] * 7, True, 0.875),
        ([YES] * 6 + [NO] * 2, True, 0.25),
        ([NO] * 8, True, -0.5),
        ([YES] * 8, True, -0.5),
        ([], False, -1.0),
    ],
)
def test_absolute_zero_task(hits, formed, reward):
    assert baselines.absolute_zero_task(hits, formed) == reward


@pytest.mark.parametrize(
    ("hits", "formed", "share", "reward"),
    [
        ([YES] * 3 + [NO] * 7, True, 0.25, 0.05),
        ([YES] * 8 + [NO] * 2, True, 0.0, 0.2),
        ([YES] * 10, True, 0.5, -0.5),
        ([], False, 0.25, -1.25),
    ],
)
def test_r_zero_task(hits, formed, share, reward):
    assert baselines.r_zero_task(hits, formed, share) == pytest.approx(reward)


@pytest.mark.parametrize(
    ("hits", "format_score", "reward"),
    [
        ([YES] + [NO] * 4, 1.0, 1.5),
        ([YES] * 4 + [NO], 0.5, 0.5),
        ([NO] * 5, 1.0, 0.5),
        ([YES] * 5, 1.0, 0.5),
        ([], 0.0, 0.0),
    ],
)
def test_drzero_task(hits, format_score, reward):
    # (n - k) / (n - 1): 4/4 at k = 1, 1/4 at k = 4
    assert baselines.drzero_task(hits, format_score) == pytest.approx(reward)


@pytest.mark.parametrize(("calls", "reward"), [(2.0, 0.5 - 0.25 + 0.1), (6.0, 0.5 - 0.25 + 0.2)])
def test_agent0_task_adds_tool_calls_up_to_four(calls, reward):
    assert baselines.agent0_task([YES, NO], True, 0.25, calls) == pytest.approx(reward)


TASK = {"question": "What is the capital of France?", "answer": "Paris"}


@pytest.mark.parametrize(
    ("turns", "task", "score"),
    [
        ([Turn("<think>a</think>b", ("q",), "The capital is Paris."), Turn("b")], TASK, (1 + 0.5 + 1 + 1) / 4),
        ([Turn("<think>a</think>b")], TASK, (1 + 1 + 0 + 0) / 4),
        (
            [Turn("b", ("q",), "Paris is in France.")],
            {"question": "Where is Paris?", "answer": "Paris"},
            0.0,
        ),  # gives its answer away
        (
            [Turn("b", ("q",), "one two three four five six")],
            {"question": "Which?", "answer": "one two three four five six"},
            (1 + 0 + 1 + 0.5) / 4,
        ),
        ([Turn("b")], None, 0.0),
    ],
)
def test_drzero_format(turns, task, score):
    assert baselines.drzero_format(replace(make_episode(0, 4, [3]), turns=tuple(turns)), task) == pytest.approx(score)


@pytest.mark.parametrize(
    ("method", "verdict", "reward"),
    [
        ("absolute_zero", True, 1.0),
        ("absolute_zero", False, -0.5),
        ("absolute_zero", None, -1.0),
        ("r_zero", True, 1.0),
        ("r_zero", False, 0.1),
        ("agent0", None, 0.0),
        ("gold", True, 1.0),
        ("gold", False, 0.0),
        ("gold", None, 0.0),
    ],
)
def test_solver_reward(method, verdict, reward):
    assert baselines.solver_reward(method, verdict) == pytest.approx(reward)


@pytest.mark.parametrize(("right", "weight"), [(3, 0.6), (8, 1.0), (5, 0.76), (0, 0.6), (10, 1.0)])
def test_agent0_weight_rises_from_three_to_eight_tenths(right, weight):
    assert baselines.agent0_weight([True] * right + [False] * (10 - right)) == pytest.approx(weight)


def test_majority_counts_normalised_answers_and_no_missing_ones():
    assert baselines.majority(["Paris", None, "the paris.", "Rome", None, None]) == "paris"
    assert baselines.majority([None, None]) == ""


def test_target_is_the_gold_the_majoritys_or_the_own_answer():
    task = {"answer": "A", "answers": ["B", "B", "A"], "golden_answers": ["C", "D"]}
    assert {m: baselines.target(task, m) for m in ("gold", "r_zero", "reference", "absolute_zero")} == {
        "gold": ["C", "D"],
        "r_zero": ["b"],
        "reference": ["A"],
        "absolute_zero": ["A"],
    }


def test_verdicts_are_matches_and_unknown_without_an_answer():
    assert baselines.verdicts(["the Paris", "Rome", None], ["paris"]) == [True, False, None]


@pytest.mark.parametrize(
    ("method", "right", "kept"), [("r_zero", 2, False), ("r_zero", 3, True), ("agent0", 8, True), ("agent0", 9, False)]
)
def test_tasks_of_middle_difficulty_are_kept(method, right, kept):
    assert baselines.keeps(method, {"verdicts": [True] * right + [False] * (10 - right)}) is kept


def test_bleu_of_equal_and_of_unlike_sentences():
    assert baselines.bleu("abcdef", "abcdef") == pytest.approx(1.0)  # a letter a word
    assert baselines.bleu("abcd", "efgh") == 0.0


def test_bleu_by_hand():
    # 1-grams 4/5, 2-grams 3/4, 3-grams 2/3, 4-grams 1/2; no brevity penalty
    assert baselines.bleu("abcdx", "abcd") == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    # a shorter sentence: every n-gram found but 4-grams, which count 0.1 / 1; penalty exp(1 - 5/3)
    assert baselines.bleu("abc", "abcde") == pytest.approx((1 * 1 * 1 * 0.1) ** 0.25 * math.exp(1 - 5 / 3))


def test_cluster_shares_of_near_equal_and_of_unlike_questions():
    questions = [
        "What is the capital of the country France?",
        "What is the capital of the country Peru?",
        "How many people live in Rome?",
        "x y z w",
    ]
    assert baselines.cluster_shares(questions) == [0.5, 0.5, 0.25, 0.25]
    assert baselines.cluster_shares(["alone"]) == [1.0] and baselines.cluster_shares([]) == []


def with_calls(*calls: int) -> list:
    return [replace(make_episode(i, 4, [3]), turns=(Turn("t", ("q",), "r"),) * n) for i, n in enumerate(calls)]


def test_advantage_groups():
    episodes = with_calls(1, 2, 1, 3)
    assert [len(group) for group in baselines.advantage_groups("r_zero", episodes, 2)] == [2, 2]
    assert [len(group) for group in baselines.advantage_groups("absolute_zero", episodes, 2)] == [4]
    assert [[e.n_tool_calls for e in group] for group in baselines.advantage_groups("drzero", episodes, 1)] == [
        [1, 1],
        [2],
        [3],
    ]


def test_task_rewards_of_a_batch():
    drafts = [
        {
            "question": "Which city is the capital of France?",
            "answer": "Paris",
            "verdicts": [True, False],
            "well_formed": True,
            "tool_calls": 1.0,
        },
        {"question": None, "answer": None, "verdicts": [], "well_formed": False},
    ]
    episodes = with_calls(1, 0)
    found = {
        method: baselines.task_rewards(method, drafts, episodes)
        for method in ("absolute_zero", "r_zero", "agent0", "drzero")
    }
    assert found["absolute_zero"] == [0.5, -1.0]
    assert found["r_zero"] == pytest.approx([0.0, -1.5])  # each is half of the batch
    assert found["agent0"] == pytest.approx([0.05, -1.5])
    assert found["drzero"] == pytest.approx([0.5 * 0.5 + 1.0, 0.0])  # format (1 + 0 + 1 + 0) / 4, k = 1 of 2
