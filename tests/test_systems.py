"""Rewards of the systems beside ASL, by hand-worked cases."""

import inspect
import math
import pkgutil
import random
from collections import Counter
from dataclasses import replace

import pytest
from helpers import make_episode

from asl_min import recipes
from asl_min.config import Config
from asl_min.episode import Episode, Request, Task, Turn
from asl_min.recipes import absolute_zero, absolute_zero_grounded, agent0, dr_zero, r_zero
from asl_min.run.errors import InputError

YES, NO = True, False


def asked_for(hops: int, **values) -> Episode:
    """An episode that was asked for a task of so many hops."""
    return replace(make_episode(0, 4, [3]), request=Request("task_by_hops", {"hops": str(hops)}, 0), **values)


def system(name: str) -> recipes.Recipe:
    return recipes.load(Config(recipe=name, round_rollouts=1000))


def task(hits, **values) -> Task:
    return Task("Which city is it?", "Rome", well_formed=True, verdicts=tuple(hits), **values)


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
    assert absolute_zero.task_reward(hits, formed) == reward


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
    assert r_zero.task_reward(hits, formed, share) == pytest.approx(reward)


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
    assert dr_zero.task_reward(hits, format_score) == pytest.approx(reward)


@pytest.mark.parametrize(("calls", "reward"), [(2, 0.5 - 1 + 0.1), (6, 0.5 - 1 + 0.2)])
def test_agent0_task_adds_the_writers_tool_calls_up_to_four(calls, reward):
    tasks, episodes = [task([YES, NO])] * 4, with_calls(calls) * 4
    assert system("agent0").task_rewards(tasks, episodes) == pytest.approx([reward] * 4)


TASK = Task("What is the capital of France?", "Paris", well_formed=True)


@pytest.mark.parametrize(
    ("turns", "task", "hops", "score"),
    [
        ([Turn("<think>a</think>b", ("q",), "The capital is Paris."), Turn("b")], TASK, 2, (1 + 0.5 + 1 + 1) / 4),
        ([Turn("b", ("q",), "The capital is Paris.")], TASK, 4, (1 + 0 + 2 / 4 + 1) / 4),
        ([Turn("<think>a</think>b")], TASK, 2, (1 + 1 + 0 + 0) / 4),
        ([Turn("<think>a</think>b")], TASK, 1, (1 + 1 + 1 + 0) / 4),  # one hop needs no call
        ([Turn("b")], Task("Is Rome in Italy?", "Yes", well_formed=True), 1, (1 + 0 + 1 + 1) / 4),
        (
            [Turn("b", ("q",), "Paris is in France.")],
            Task("Where is Paris?", "Paris", well_formed=True),
            1,
            0.0,
        ),  # gives its answer away
        (
            [Turn("b", ("q",), "one two three four five six")],
            Task("Which?", "one two three four five six", well_formed=True),
            2,
            (1 + 0 + 1 + 0.5) / 4,
        ),
        ([Turn("b")], Task(None, None), 1, 0.0),
    ],
)
def test_drzero_format(turns, task, hops, score):
    assert dr_zero.format_score(asked_for(hops, turns=tuple(turns)), task) == pytest.approx(score)


@pytest.mark.parametrize(
    ("method", "verdict", "reward"),
    [
        ("absolute_zero", True, 1.0),
        ("absolute_zero", False, -0.5),
        ("absolute_zero", None, -1.0),
        ("r_zero", True, 1.0),
        ("r_zero", False, 0.1),
        ("agent0", None, 0.0),
        ("search_r1", True, 1.0),
        ("search_r1", False, 0.0),
        ("search_r1", None, 0.0),
    ],
)
def test_solver_reward(method, verdict, reward):
    assert system(method).answer_reward(verdict) == pytest.approx(reward)


@pytest.mark.parametrize(("right", "weight"), [(3, 0.6), (8, 1.0), (5, 0.76), (0, 0.6), (10, 1.0)])
def test_agent0_weight_rises_from_three_to_eight_tenths(right, weight):
    assert agent0.weight([True] * right + [False] * (10 - right)) == pytest.approx(weight)


def test_agent0_scales_grpos_advantages():
    groups = [[replace(make_episode(i, 4, [3]), reward=float(i)) for i in range(2)]] * 2
    found = system("agent0").answer_advantages(groups, [task([YES] * 3 + [NO] * 7), task([YES] * 8 + [NO] * 2)])
    assert [a.tolist() for a in found] == [pytest.approx([-0.6, 0.6], abs=1e-4), pytest.approx([-1, 1], abs=1e-4)]


def test_imitation_takes_the_episodes_judged_correct_and_no_other():
    episodes = [
        make_episode(i, 4, [3]).with_reward(0.0, verdict=verdict) for i, verdict in enumerate([YES, NO, None, YES])
    ]
    groups = system("imitation").answer_groups(episodes)
    assert groups == [[episodes[0], episodes[3]]]
    assert [a.tolist() for a in system("imitation").answer_advantages(groups, [])] == [[1.0, 1.0]]
    assert system("imitation").answer_groups(episodes[1:3]) == [[]]


def test_answer_key_is_the_gold_the_majoritys_or_the_own_answer_or_the_judges():
    asked, said = Task("q", "A", answers=("B", "B", "A"), golden_answers=("C", "D")), ["E", "E", "F"]
    keys = {
        name: system(name).policy_key(asked, said)
        for name in ("search_r1", "r_zero", "rule_reward", "absolute_zero", "sharpening")
    }
    assert keys.pop("sharpening") == ["E"]
    assert keys == {"search_r1": ["C", "D"], "r_zero": ["B"], "rule_reward": ["A"], "absolute_zero": ["A"]}
    for mode in ("asl_gen_rm", "asl_rule", "asl_hybrid"):
        assert system(mode).policy_key(asked, said) is None
        assert system(mode).answer_key(asked) == (["A"] if mode == "asl_rule" else None)


def test_random_tasks_keeps_as_many_attempted_ones_as_asl_would():
    tried = [Task(f"Which of the towns is {i}?", "a", verdicts=(YES, NO), reward=i % 3 / 3) for i in range(30)]
    tasks = tried + [Task(None, None)] * 10
    draws = [system("random_tasks").chosen(tasks, random.Random(seed)) for seed in (0, 0, 1)]
    assert [sum(draw) for draw in draws] == [20] * 3 and not any(any(draw[30:]) for draw in draws)
    assert draws[0] == draws[1] != draws[2]


def test_drzero_keeps_the_best_of_each_prompts_fresh_tasks():
    scores = [0.1, 0.3, 0.3, 0.2, 0.0, *[0.0] * 5]
    tasks = [Task("Which?", "a", well_formed=i < 5, reward=score) for i, score in enumerate(scores)]
    assert system("dr_zero").chosen(tasks, random.Random(0)) == [i == 1 for i in range(10)]


def test_drzero_asks_for_hops_in_its_ratio():
    rng = random.Random(0)
    asked = Counter(system("dr_zero").topic_prompt("Rome", rng)["fields"]["hops"] for _ in range(4000))
    assert [asked[h] / 4000 for h in "1234"] == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=0.03)


def test_system_with_fresh_tasks_needs_a_budget():
    with pytest.raises(InputError, match="'round_rollouts' is 0, but the recipe 'r_zero'"):
        recipes.load(Config(recipe="r_zero"))


def test_grounded_refuses_an_answer_that_no_tool_response_of_its_writer_holds():
    read = replace(make_episode(0, 4, [3]), turns=(Turn("t", ("q",), "Rome has 2.75 million people."), Turn("t")))
    accepts = absolute_zero_grounded.Recipe(Config()).accepts
    assert accepts(Task("q", "2.75 million", well_formed=True), read)
    assert not accepts(Task("q", "3 million", well_formed=True), read)
    assert not accepts(Task("q", "2.75 million", well_formed=True), replace(read, turns=(Turn("t"),)))


def test_every_system_fulfils_the_protocol_and_overrides_only_what_it_names():
    methods = {name: value for name, value in vars(recipes.Recipe).items() if inspect.isfunction(value)}
    for module in pkgutil.iter_modules(recipes.__path__):
        found = system(module.name)
        for name, value in vars(type(found)).items():
            if inspect.isfunction(value) and not name.startswith("_"):
                assert list(inspect.signature(value).parameters) == list(inspect.signature(methods[name]).parameters)


def test_unknown_recipe_is_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"'fame': no file asl_min/recipes/fame.py; there are absolute_zero,"):
        system("fame")


@pytest.mark.parametrize(
    ("method", "right", "kept"), [("r_zero", 2, False), ("r_zero", 3, True), ("agent0", 8, True), ("agent0", 9, False)]
)
def test_tasks_of_middle_difficulty_are_kept(method, right, kept):
    """p is the share of the attempts that gave an answer, here 10 of 14."""
    hits = [True] * right + [False] * (14 - right)
    assert system(method).keeps(task(hits, answers=("Rome",) * 10 + (None,) * 4)) is kept


def test_bleu_of_equal_and_of_unlike_sentences():
    assert r_zero.bleu("abcdef", "abcdef") == pytest.approx(1.0)  # a letter a word
    assert r_zero.bleu("abcd", "efgh") == 0.0


def test_bleu_by_hand():
    # 1-grams 4/5, 2-grams 3/4, 3-grams 2/3, 4-grams 1/2; no brevity penalty
    assert r_zero.bleu("abcdx", "abcd") == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    # a shorter sentence: every n-gram found but 4-grams, which count 0.1 / 1; penalty exp(1 - 5/3)
    assert r_zero.bleu("abc", "abcde") == pytest.approx((1 * 1 * 1 * 0.1) ** 0.25 * math.exp(1 - 5 / 3))


def test_cluster_shares_of_near_equal_and_of_unlike_questions():
    questions = [
        "What is the capital of the country France?",
        "What is the capital of the country Peru?",
        "How many people live in Rome?",
        "x y z w",
    ]
    assert r_zero.cluster_shares(questions) == [0.5, 0.5, 0.25, 0.25]
    assert r_zero.cluster_shares(["alone"]) == [1.0] and r_zero.cluster_shares([]) == []


def with_calls(*calls: int) -> list:
    return [replace(make_episode(i, 4, [3]), turns=(Turn("t", ("q",), "r"),) * n) for i, n in enumerate(calls)]


def test_groups_whose_rewards_are_compared():
    episodes, config = with_calls(1, 2, 1, 3), Config(pg_samples=2, policy_samples=2)
    assert [len(group) for group in r_zero.Recipe(config).task_groups(episodes)] == [2, 2]
    assert [len(group) for group in absolute_zero.Recipe(config).answer_groups(episodes)] == [4]
    found = dr_zero.Recipe(config).task_groups([asked_for(hops) for hops in (1, 2, 1, 3)])
    assert [[episode.request.fields["hops"] for episode in group] for group in found] == [["1", "1"], ["2"], ["3"]]


def test_task_rewards_of_a_batch():
    tasks = [
        Task("Which city is the capital of France?", "Paris", None, True, verdicts=(True, False)),
        Task(None, None),
    ]
    episodes = [replace(asked_for(1), turns=episode.turns) for episode in with_calls(1, 0)]
    names = ("absolute_zero", "r_zero", "agent0", "dr_zero")
    found = {name: system(name).task_rewards(tasks, episodes) for name in names}
    assert found["absolute_zero"] == [0.5, -1.0]
    assert found["r_zero"] == pytest.approx([0.0, -1.5])  # each is half of the batch
    assert found["agent0"] == pytest.approx([0.05, -1.5])
    assert found["dr_zero"] == pytest.approx([0.5 * 0.5 + 1.0, 0.0])  # format (1 + 0 + 1 + 0) / 4, k = 1 of 2
