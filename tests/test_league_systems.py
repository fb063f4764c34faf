"""The systems of the league that came with it: what each file says by hand-worked cases, and its round in the real
phases by the script of test_phases."""

import math
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import make_episode, small_tool
from test_budget import killed  # noqa: F401 (a fixture)
from test_modes import scripted_run  # noqa: F401 (a fixture)
from test_phases import ScriptedSampler, copy_of, rows
from test_recipes import round_of, spent

from asl_min import protocol, rewards, train_policy
from asl_min.config import Config
from asl_min.corpus import Passage
from asl_min.episode import Request, Task, Triple, Turn
from asl_min.recipes import b_star, pae, sec, seif, sgs, spc, spice, sqlm, ssp
from asl_min.rollout import SEED_STRIDE
from asl_min.run import run_dir
from asl_min.tools.html.episodes import describe
from asl_min.world.oracle import Oracle

YES, NO = True, False


def task(hits, question="Which city is it?", **values) -> Task:
    return Task(question, "Rome", well_formed=True, verdicts=tuple(hits), **values)


def searched(*queries: str):
    turns = tuple(Turn("t", (query,), "r") for query in queries)
    return replace(make_episode(0, 4, [3]), turns=(*turns, Turn("t")))


# --- SSP


LONG = "Which city is the capital of the country that uses the Euro?"


@pytest.mark.parametrize(
    ("question", "queries", "valid"),
    [
        (LONG, ("Euro", "Italy"), True),
        (LONG, ("Euro",), False),  # at most one search
        (LONG, ("Euro", "Euro"), False),  # a repeated one
        ("Which city is the capital of it?", ("Euro", "Italy"), False),  # seven words
        ("Which country has the capital Rome and uses the Euro as money?", ("Euro", "Italy"), False),  # given away
    ],
)
def test_ssp_refuses_tasks_that_need_no_search(question, queries, valid):
    assert ssp.Recipe(Config()).accepts(Task(question, "Rome", well_formed=True), searched(*queries)) is valid


def test_ssp_pays_for_failures_and_nothing_for_a_task_that_was_not_attempted():
    found = ssp.Recipe(Config()).task_rewards([task([YES] + [NO] * 4), task([NO] * 5), task([])], [])
    assert found == [0.8, 1.0, 0.0]


def test_ssp_reward_is_the_advantage():
    groups = [[replace(make_episode(i, 4, [3]), reward=reward)] for i, reward in enumerate((0.8, 0.0))]
    assert [a.tolist() for a in ssp.Recipe(Config()).task_advantages(groups, [])] == [[0.8], [0.0]]


def test_ssp_attempt_at_a_task_finds_its_writers_pages_and_four_of_others():
    pages = [Passage(str(i), f"T{i}", "text") for i in range(9)]
    request = ssp.Recipe(Config())._request(0, "q", {0: pages[:2], 1: pages[1:5], 2: pages[4:]}, 0, 1)
    found = request.tool.passages
    assert found[:2] == pages[:2] and len(set(found)) == 6 and set(found[2:]) <= set(pages[2:])
    alone = ssp.Recipe(Config())._request(0, "q", {0: pages[:2]}, 0, 1)
    assert alone.tool.passages == pages[:2] and alone.seed == request.seed


def test_ssp_task_whose_writer_found_no_page_is_not_attempted():
    agent = SimpleNamespace(tool=small_tool(), rollout=lambda role, requests: [make_episode(0, 4, [3])] * len(requests))
    tasks = [Task(LONG, "t", well_formed=True)] * 2
    episodes = [searched("Paris", "France"), searched("Qxz", "Zxq")]
    tasks, same = ssp.Recipe(Config()).played(SimpleNamespace(agent=agent), tasks, episodes, 0)
    assert [t.well_formed for t in tasks] == [False, False] and same == episodes  # the attempt gave no answer either


def deep(text: str, seed: int) -> str:
    """The writer searches twice and asks a long question, whose answer is Q7, which the policy says two times of
    three."""
    prompt = text.split("<|assistant|>")[0]
    if " on: " not in prompt:
        return f"<answer>{'Q7' if seed // SEED_STRIDE % 3 else 'B'}</answer>"
    calls = text.count("<tool_response>")
    topic = prompt.rpartition(" on: ")[2].removesuffix("<|end|>")[:12]
    if calls < 2:
        return protocol.render_tool_call(topic + " again" * calls)
    return f"<question>What is the capital of the country that is known as {topic}?</question><answer>Q7</answer>"


@pytest.fixture
def deep_run(scripted_run, monkeypatch):  # noqa: F811
    class Deep(ScriptedSampler):
        def __init__(self, model, chat):
            super().__init__(model, chat)
            self.write = deep

    def run(**values):
        monkeypatch.setattr("asl_min.sampling.generate.Generator", Deep)
        return scripted_run(max_turns=4, **values)

    return run


def test_ssp_attempts_what_can_be_answered_from_the_writers_pages(deep_run):
    folders = round_of(deep_run(recipe="ssp", pg_samples=1, pg_prompts=8))
    drafts = rows(folders["prompt_generator"], "drafts.jsonl")
    formed = [d["well_formed"] for d in drafts]
    assert len(drafts) == 16 and any(formed) and not all(formed)
    assert all(len(d["verdicts"]) == 6 * d["well_formed"] and d["kept"] == d["well_formed"] for d in drafts)
    facts = spent(folders)
    written = sum(d["question"] is not None for d in drafts)
    assert facts["prompt_generator"]["episodes"] == 16 + written + 6 * sum(formed)
    assert facts["prompt_generator"]["judge_calls"] == 0 < facts["prompt_generator"]["optimizer_steps"]
    assert facts["policy"]["steps"] > 0


# --- SQLM


@pytest.mark.parametrize(("hits", "reward"), [(1, 0.0), (2, 1.0), (7, 1.0), (8, 0.0), (0, 0.0)])
def test_sqlm_pays_a_majority_of_more_than_one_and_fewer_than_all(hits, reward):
    assert sqlm.task_reward([YES] * hits + [NO] * (8 - hits)) == reward
    assert sqlm.Recipe(Config()).task_rewards([task([])], []) == [0.0]


def test_sqlm_takes_the_majority_for_right():
    recipe, asked = sqlm.Recipe(Config()), Task("q", "own", answers=("B", "b", "A", None))
    assert recipe.answer_key(asked) == ["B"] and recipe.policy_key(asked, ["C", "C", "A"]) == ["C"]
    assert recipe.answer_key(Task("q", "own", answers=(None, None))) == [""]


# --- SGS


def test_sgs_writer_learns_from_the_hard_ones_of_the_step():
    # rates other than 0 and 1, sorted: 1/8, 2/8, 4/8, 6/8; place int(0.7 * 4) = 2 is 4/8
    tasks = [task([YES] * k + [NO] * (8 - k)) for k in (0, 1, 2, 4, 6, 8)]
    assert sgs.teaches(tasks) == [NO, YES, YES, YES, NO, NO]
    assert sgs.teaches([task([YES] * 8), task([NO] * 8), task([])]) == [NO] * 3


def test_sgs_weights_by_review_times_failures_scaled_to_one():
    recipe = sgs.Recipe(Config(pg_samples=2))
    votes = [(YES, YES), (YES, NO), (NO, NO), (YES, YES)]
    tasks = [task([YES] * k + [NO] * (8 - k), votes=v) for k, v in zip((2, 2, 2, 8), votes, strict=True)]
    earned = recipe.task_rewards(tasks, [])
    assert earned == [0.75, 0.375, 0.0, 0.0]
    tasks = [replace(t, reward=r) for t, r in zip(tasks, earned, strict=True)]
    (found,) = recipe.task_advantages(recipe.task_groups([make_episode(i, 4, [3]) for i in range(4)]), tasks)
    assert found.tolist() == [1.0, 0.5, 0.0, 0.0]
    (alike,) = recipe.task_advantages([[]], [tasks[0], tasks[3]])
    assert alike.tolist() == [1.0, 0.0]  # of one task the weight is 1
    (nothing,) = recipe.task_advantages([[]], [tasks[3]])
    assert nothing.tolist() == [0.0]


@pytest.mark.parametrize(("hits", "kept"), [(0, False), (1, True), (4, True), (5, False), (8, False)])
def test_sgs_solver_trains_on_what_is_solved_at_most_half_of_the_time(hits, kept):
    assert sgs.Recipe(Config()).keeps(task([YES] * hits + [NO] * (8 - hits))) is kept


# --- B-STaR


@pytest.mark.parametrize(("right", "selected", "score"), [(8, 8, 1), (16, 32, 0.5), (4, 8, 0.25), (0, 5, 0), (0, 0, 0)])
def test_b_star_balance_score(right, selected, score):
    assert b_star.balance_score(right, selected) == score


def test_b_star_counts_the_right_among_the_selected_of_each_task():
    tasks, recipe = [task([]), task([], "Where?")], b_star.Recipe(Config())
    pairs, said = [(0, "Rome"), (0, "Paris"), (1, "Rome"), (1, None)], [YES, YES, NO, None]
    # judged correct: 1 right of 2 selected, 0 of 0; all: 1 of 2, 1 of 2
    assert recipe._balance(tasks, pairs, said, 0.0) == pytest.approx((1 / 8 * 1 / 2 + 0) / 2)
    assert recipe._balance(tasks, pairs, said, -1.0) == pytest.approx(1 / 8 * 1 / 2)


def test_b_star_imitates_what_is_above_the_threshold():
    recipe = b_star.Recipe(Config())
    episodes = [make_episode(i, 4, [3]).with_reward(0.0, verdict=verdict) for i, verdict in enumerate([YES, NO, None])]
    assert recipe.answer_groups(episodes) == [[episodes[0]]]
    recipe.threshold = -1.0
    assert recipe.answer_groups(episodes) == [episodes]


# --- SEC


def outcomes(**verdicts) -> list[dict]:
    return [{"question": name, "verdict": verdict} for name, own in verdicts.items() for verdict in own]


def test_sec_bandit_follows_the_mean_advantage():
    kinds = {"a": "1", "b": "2", "c": "3"}
    one = outcomes(a=[YES, NO], b=[YES, YES])  # advantages of a: +1 and -1; of b: 0
    assert sec.values_of(kinds, [], 2, 2) == {"1": 0.0, "2": 0.0, "3": 0.0}
    assert sec.values_of(kinds, one, 2, 2) == pytest.approx({"1": 0.5, "2": 0.0, "3": 0.0}, abs=1e-5)
    two = one + outcomes(b=[YES, NO], c=[NO, NO])  # a kind that was not asked falls too
    assert sec.values_of(kinds, two, 2, 2) == pytest.approx({"1": 0.25, "2": 0.5, "3": 0.0}, abs=1e-5)


def test_sec_draws_the_kinds_by_the_exponential_of_their_value():
    config = Config(policy_prompts=4000, policy_samples=2)
    tasks = [Task(name, "x", {"hops": hops}) for name, hops in (("a", "1"), ("b", "2"))]
    rows_of_step = outcomes(a=[YES, NO] * 2000, b=[YES, YES] * 2000)
    phase = SimpleNamespace(seed_key=(0, 1, "policy"), rows={"outcomes": rows_of_step})
    drawn = [t.question for t in sec.Recipe(config).batch(phase, tasks, 1)]
    assert drawn.count("a") / 4000 == pytest.approx(1 / (1 + math.exp(-0.5 / 0.4)), abs=0.03)
    assert drawn == [t.question for t in sec.Recipe(config).batch(phase, tasks, 1)]


def test_sec_asks_for_all_hops_alike():
    rng = random.Random(0)
    asked = [sec.Recipe(Config()).topic_prompt("Rome", rng)["fields"]["hops"] for _ in range(4000)]
    assert [asked.count(h) / 4000 for h in "1234"] == pytest.approx([0.25] * 4, abs=0.03)


# --- SPC


def test_spc_pays_the_deceiver_for_a_wrong_answer_that_is_held_for_correct():
    tasks = [task([YES, YES]), task([YES, NO]), task([NO, YES]), task([YES]), Task(None, None)]
    assert spc.Recipe(Config()).task_rewards(tasks, []) == [1.0, -1.0, 1.0, -1.0, -1.0]


def test_spc_label_is_whether_it_is_the_tasks_own_answer():
    label = spc.Recipe(Config()).label
    assert label(Triple("q", "rome", "Rome")) is True and label(Triple("q", "Paris", "Rome")) is False


def test_spc_trains_the_deceivers_episodes_alone():
    wrote, deceived = make_episode(0, 4, [3]), make_episode(1, 4, [3])
    wrote = replace(wrote, request=Request("task_from_topic", {"topic": "Rome"}, 0))
    assert spc.Recipe(Config(pg_samples=2)).task_groups([wrote, deceived]) == [[deceived]]


def test_spc_round(scripted_run):  # noqa: F811
    """The script's deceiver says A or B, its tasks' answers are A or B, and its judge holds A for correct."""
    folders = round_of(scripted_run(recipe="spc"))
    drafts = [d for d in rows(folders["prompt_generator"], "drafts.jsonl") if d["well_formed"]]
    assert all(d["answers"][0] == d["answer"] and d["verdicts"] == [a == "A" for a in d["answers"]] for d in drafts)
    assert {(d["answer"], tuple(d["answers"][1:]), d["reward"]) for d in drafts} <= {
        ("A", ("B",), -1.0),
        ("B", ("A",), 1.0),
        ("A", (), -1.0),
        ("B", (), -1.0),
    }
    labelled = rows(folders["reward_model"], "labelled.jsonl")
    assert labelled and sum(t["label"] for t in labelled) * 2 == len(labelled)
    assert all(t["label"] == (t["answer"] == t["reference"]) for t in labelled)
    assert {e["prompt"] for e in rows(folders["prompt_generator"], "episodes.jsonl")} == {"policy"}
    assert spent(folders)["reward_model"]["steps"] > 0 and spent(folders)["policy"]["judge_calls"] > 0


def test_report_shows_a_deceivers_episode_with_its_task(world):
    deceived = make_episode(0, 4, [3]).with_reward(-1.0, task=task([YES, NO], answers=("Rome", "Paris")).record())
    row = describe(deceived, "prompt_generator", spc.Recipe(Config()), Oracle(world), set())
    assert (row["question"], row["answer"]) == ("Which city is it?", "Rome")
    assert row["attempts"] == [["Rome", True, False], ["Paris", False, False]]  # the world has no such question


# --- SEIF


@pytest.mark.parametrize(
    ("verdicts", "answers", "reward"),
    [
        ([YES, NO, NO, NO], ["A"] * 4, 0.75),
        ([YES, NO, NO, NO], ["A", "A", None, None], 0.5),
        ([NO, NO], [None, None], 0.0),
        ([], [], 0.0),
    ],
)
def test_seif_pays_for_what_is_not_followed(verdicts, answers, reward):
    assert seif.task_reward(task(verdicts, answers=tuple(answers))) == reward


def test_seif_round_is_judged_with_the_policys_adapter(scripted_run):  # noqa: F811
    run = scripted_run(recipe="seif", round_rollouts=400, frozen=["reward_model"])
    folders = round_of(run)
    assert sum(facts["judge_calls"] for facts in spent(folders).values()) == 0
    drafts = rows(folders["prompt_generator"], "drafts.jsonl")
    assert all(d["votes"] == [d["answer"] == "A"] for d in drafts if d["well_formed"])
    assert all(bool(d["verdicts"]) == (d["verified"] and not d["fresh"]) for d in drafts)
    tasks = rows(folders["prompt_generator"], "tasks.jsonl")
    assert tasks and all(t["fresh"] and t["answer"] == "A" for t in tasks)


# --- SPICE


@pytest.mark.parametrize(
    ("hits", "formed", "reward"),
    [
        (4, True, 1.0),
        (2, True, math.exp(-((3 / 16 - 1 / 4) ** 2) / 0.02)),
        (0, True, math.exp(-1 / 16 / 0.02)),
        (8, True, math.exp(-3.125)),
        (0, False, -0.1),
    ],
)
def test_spice_task(hits, formed, reward):
    assert spice.task_reward([YES] * hits + [NO] * (8 - hits), formed) == pytest.approx(reward)


def test_spice_advantages_are_centred_and_not_scaled():
    group = [replace(make_episode(i, 4, [3]), reward=reward) for i, reward in enumerate((1.0, 0.0, 0.0, 0.0))]
    recipe = spice.Recipe(Config())
    for found in (recipe.task_advantages([group], []), recipe.answer_advantages([group], [])):
        assert [a.tolist() for a in found] == [[0.75, -0.25, -0.25, -0.25]]


# --- PAE


def test_pae_imitates_the_shortest_fifth_of_the_right_attempts():
    def attempt(turns: int, verdict: bool):
        return replace(make_episode(turns, 4, [3]), turns=(Turn("t"),) * turns).with_reward(0.0, verdict=verdict)

    group = [attempt(1, NO), attempt(2, YES), attempt(2, YES), attempt(3, YES), attempt(5, YES)]
    assert pae.shortest_right(group) == group[1:3]
    # lengths 2, 3, 4: the 20th percentile lies between 2 and 3
    assert [len(e.turns) for e in pae.shortest_right([attempt(n, YES) for n in (4, 3, 2)])] == [2]
    assert pae.shortest_right(group[:1]) == [] and pae.shortest_right(group[4:]) == group[4:]
    recipe = pae.Recipe(Config(policy_samples=5))
    assert [a.tolist() for a in recipe.answer_advantages(recipe.answer_groups(group), [])] == [[1.0, 1.0]]


# --- their rounds

ROUNDS = ["sqlm", "sgs", "b_star", "sec", "spice", "pae"]
FROZEN = {"b_star", "sec", "pae"}


@pytest.mark.parametrize("name", ROUNDS)
def test_round_trains_the_policy_without_gold(scripted_run, name):  # noqa: F811
    frozen = ["prompt_generator"] * (name in FROZEN) + ["reward_model"]
    folders = round_of(scripted_run(recipe=name, frozen=frozen))
    facts = spent(folders)
    assert facts["policy"]["steps"] > 0 and sum(f["gold_labels"] for f in facts.values()) == 0
    assert bool(facts["policy"]["judge_calls"]) == (name in ("b_star", "pae"))
    assert bool(facts["prompt_generator"]["judge_calls"]) == (name == "sgs")
    drafts = [Task.of_record(row) for row in rows(folders["prompt_generator"], "drafts.jsonl")]
    kept = [t.question for t in rewards.distinct(t for t in drafts if t.kept).values()]
    assert [t["question"] for t in rows(folders["prompt_generator"], "tasks.jsonl")] == kept
    assert (facts["prompt_generator"]["optimizer_steps"] == 0) == (name in FROZEN)


@pytest.mark.parametrize("name", ["b_star", "sec"])
def test_interrupted_phase_chooses_as_before(scripted_run, tmp_path, killed, name):  # noqa: F811
    run = scripted_run(recipe=name, frozen=["prompt_generator", "reward_model"], policy_max_steps=4)
    whole = round_of(run)["policy"]
    again = copy_of(run, tmp_path / "again", "prompt_generator", "reward_model")
    killed(train_policy, again, train_policy.Phase, "update", 3)
    folder = run_dir.phase_dir(again, 1, "policy")
    assert rows(folder, "outcomes.jsonl") == rows(whole, "outcomes.jsonl")
    if name == "b_star":
        assert rows(folder, "choice.jsonl") == rows(whole, "choice.jsonl")
        (choice,) = rows(folder, "choice.jsonl")
        assert choice["temperature"] in b_star.TEMPERATURES and np.isfinite(choice["score"])
