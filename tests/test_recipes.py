"""Recipes: what each file says, what its arm does in the real phases at their smallest, and that only those which say
so reach gold."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import TARGET
from helpers import ROOT, rewrite
from test_phases import PHASES, ROOMY, ScriptedSampler, copy_of, new_run, rows

from asl_min import evaluate, recipes, rewards, roles, train_prompt_generator
from asl_min.config import Config, check, load_config
from asl_min.corpus import in_split, load_judgments, load_questions, write_jsonl
from asl_min.episode import Episode, Task
from asl_min.evaluate import evaluate_round
from asl_min.model import ROLES
from asl_min.phase import Agent
from asl_min.run import gold, run_dir
from asl_min.run.errors import InputError
from asl_min.tools.summary import BUDGET, round_summary
from asl_min.world.oracle import Oracle

ARMS = {path.stem: load_config(path) for path in (ROOT / "configs" / "arms").glob("*.yaml")}
GOLD = {
    "search_r1_16",
    "search_r1_64",
    "search_r1_4",
    "oracle_late",
    "inject_early",
    "inject_late",
    "hybrid_oracle_late",
    "hybrid_inject_early",
    "hybrid_inject_late",
}


# --- the files


@pytest.mark.parametrize("name", ARMS)
def test_arm_is_named_as_its_file(name):
    assert ARMS[name].name == name and recipes.load(ARMS[name])


def test_hybrid_mode_is_the_miniature():
    assert ARMS["asl_hybrid"] == load_config(ROOT / "configs" / "tiny.yaml")


def test_every_arm_has_the_same_budget_and_length():
    assert len({(config.rounds, config.round_rollouts, config.grm_max_steps) for config in ARMS.values()}) == 1


@pytest.mark.parametrize("name", ["asl_gen_rm", "asl_rule"])
def test_modes_differ_in_the_recipe_alone(name):
    assert replace(ARMS[name], recipe="asl_hybrid") == ARMS["asl_hybrid"]


def gold_of(config: Config) -> list[Path]:
    """Every gold file that any phase of a run may read."""
    phases = [(number, role) for number in range(1, config.rounds + 1) for role in ROLES]
    return [file for phase in phases for file in recipes.load(config).gold_files(*phase)]


def test_arms_with_gold_are_those_that_say_so():
    assert {name for name, config in ARMS.items() if gold_of(config)} == GOLD
    comments = {path.stem: "Gold, openly" in path.read_text() for path in (ROOT / "configs" / "arms").glob("*.yaml")}
    assert {name for name, says in comments.items() if says} == GOLD


def test_every_arm_learns_at_the_same_rate():
    assert {config.learning_rate for config in ARMS.values()} == {ARMS["asl_hybrid"].learning_rate}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"recipe": "search_r1", "labelled_questions": None}, "labelled_questions"),
        ({"inject_round": 1, "labelled_judgments": None}, "labelled_judgments"),
        ({"recipe": "oracle_judge", "oracle": None}, "oracle"),
        ({"labelled_questions": Config().questions}, "the questions of the evaluation"),
        ({"recipe": "fame"}, "recipe"),
        ({"policy_tasks": -1}, "policy_tasks"),
        ({"pg_samples": 1}, "pg_samples"),
    ],
)
def test_impossible_recipe_is_refused(values, said):
    with pytest.raises(InputError, match=said):
        recipes.load(check(values, "recipe.yaml"))


# --- the labelled data


def queries(questions: list[dict]) -> set[tuple]:
    return {(q["metadata"]["start"], *q["metadata"]["path"]) for q in questions}


def test_labelled_questions_are_none_of_the_evaluations():
    held, train = load_questions(TARGET / "questions.jsonl"), load_questions(TARGET / "train_questions.jsonl")
    assert not queries(held) & queries(train) and not {q["question"] for q in held} & {q["question"] for q in train}
    assert [sum(q["metadata"]["hops"] == hops for q in train) for hops in (1, 2, 3, 4)] == [64] * 4


def test_labelled_judgments_are_on_labelled_questions():
    judged = load_judgments(TARGET / "train_judgments.jsonl")
    assert {j["question"] for j in judged} <= {q["question"] for q in load_questions(TARGET / "train_questions.jsonl")}
    assert sum(j["label"] for j in judged) * 2 == len(judged)


def test_labels_of_the_labelled_judgments_are_true(world):
    oracle = Oracle(world)
    assert all(
        oracle.right(j["question"], j["answer"]) == j["label"] for j in load_judgments(TARGET / "train_judgments.jsonl")
    )


def test_validation_questions_are_none_of_the_test():
    questions = load_questions(TARGET / "questions.jsonl")
    test, validation = (
        in_split(questions, Config().eval_per_hop, split, per_hop=True) for split in ("test", "validation")
    )
    assert len(test) == len(validation) == 408 and not queries(test) & queries(validation)
    with pytest.raises(InputError, match="only 816 rows"):
        in_split(questions, 300, "validation", per_hop=True)


# --- the guard


def test_a_phase_reads_the_gold_it_was_given_and_no_other():
    with gold.training("p", [TARGET / "train_questions.jsonl"]):
        assert load_questions(TARGET / "train_questions.jsonl")
        for read in (
            lambda: load_questions(TARGET / "questions.jsonl"),
            lambda: load_judgments(TARGET / "judgments.jsonl"),
            lambda: Oracle.of("target"),
        ):
            with pytest.raises(gold.GoldAccessError):
                read()


def test_an_inner_phase_is_given_no_more_than_the_outer_one():
    file = TARGET / "train_questions.jsonl"
    with gold.training("outer"), gold.training("inner", [file]), pytest.raises(gold.GoldAccessError):
        load_questions(file)
    with gold.training("outer", [file]):
        with gold.training("inner"), pytest.raises(gold.GoldAccessError):
            load_questions(file)
        assert load_questions(file)


@pytest.mark.parametrize("name", ["train_questions.jsonl", "train_judgments.jsonl"])
def test_asl_cannot_reach_the_labelled_data(scripted_run, monkeypatch, name):
    run = scripted_run()
    monkeypatch.setattr(train_prompt_generator, "meta_prompts", lambda phase: (TARGET / name).read_text())
    with pytest.raises(gold.GoldAccessError, match=name):
        train_prompt_generator.run_phase(run, 1)


# --- the arms, by the script of test_phases: every task is "What is the capital of TOPIC?" with A or B; the policy says
# A or B


@pytest.fixture
def scripted_run(config, tmp_path, monkeypatch):
    """Makes a run whose sampler is the script."""
    monkeypatch.setattr("asl_min.sampling.generate.Generator", ScriptedSampler)
    return lambda **values: new_run(tmp_path / "run", replace(config, **ROOMY | values))


def round_of(run: Path) -> dict[str, Path]:
    """The three phases of round 1, run; their folders."""
    for role in ROLES:
        PHASES[role].run_phase(run, 1)
    return {role: run_dir.phase_dir(run, 1, role) for role in ROLES}


def spent(folders: dict[str, Path]) -> dict[str, dict]:
    return {role: json.loads((folder / "done.json").read_text()) for role, folder in folders.items()}


BUDGETS = {"absolute_zero": 0, "absolute_zero_grounded": 0, "r_zero": 400, "agent0": 400}


@pytest.mark.parametrize("name", BUDGETS)
def test_system_without_a_judge_asks_none(scripted_run, name):
    run = scripted_run(recipe=name, round_rollouts=BUDGETS[name])
    folders, recipe = round_of(run), recipes.load(run_dir.read_config(run))
    assert sum(facts["judge_calls"] + facts["gold_labels"] for facts in spent(folders).values()) == 0
    assert spent(folders)["reward_model"]["steps"] == 0
    drafts, tasks = (
        [Task.of_record(row) for row in rows(folders["prompt_generator"], f"{file}.jsonl")]
        for file in ("drafts", "tasks")
    )
    formed = [task for task in drafts if task.well_formed]
    assert formed and all(len(task.verdicts) == 6 and task.votes == () for task in formed)
    for task in formed:
        said = rewards.matched(task.answers, recipe.answer_key(task), rewards.exact_match)
        assert list(task.verdicts) == [v is True for v in said]
    assert tasks and all(recipe.keeps(task) for task in tasks)
    keys = {task.question: recipe.policy_key(task, []) for task in tasks}
    outcomes = rows(folders["policy"], "outcomes.jsonl")
    assert outcomes and all(
        o["verdict"] == rewards.matched([o["answer"]], keys[o["question"]], rewards.exact_match)[0] for o in outcomes
    )


def test_grounded_tasks_are_those_whose_answer_their_writer_read(scripted_run):
    """The script's tool responses hold "a" and "A" somewhere, but no task answers "B" from what it read."""
    folder = round_of(scripted_run(recipe="absolute_zero_grounded"))["prompt_generator"]
    for episode in map(Episode.of_record, rows(folder, "episodes.jsonl")):
        task = Task.of_record(episode.meta["task"])
        read = task.answer is not None and any(task.answer in response for response in episode.responses)
        assert task.well_formed == read and (read or task.reward == -1.0) and (read or task.answers == ())


def test_rule_reward_is_the_match_with_the_tasks_own_answer_and_the_format_bonus(scripted_run):
    folders = round_of(scripted_run(recipe="rule_reward"))
    episodes = rows(folders["policy"], "episodes.jsonl")
    assert {e["reward"] for e in episodes} == {0.0, 1.0}  # no think block, no tool: no bonus
    assert all(
        e["reward"] == (e["turns"][-1]["text"] == "<answer>A</answer>") for e in episodes
    )  # every kept task says A
    assert spent(folders)["policy"]["judge_calls"] == 0 < spent(folders)["prompt_generator"]["judge_calls"]


def test_search_r1_trains_on_the_labelled_questions_alone(scripted_run, tmp_path):
    labelled = [
        {"question": f"Which letter is number {i}?", "golden_answers": ["A" if i % 2 else "B"]} for i in range(9)
    ]
    write_jsonl(tmp_path / "labelled.jsonl", labelled)
    values = {
        "recipe": "search_r1",
        "policy_tasks": 4,
        "labelled_questions": str(tmp_path / "labelled.jsonl"),
        "pg_max_steps": 0,
    }
    folders = round_of(scripted_run(**values))
    outcomes, golden = rows(folders["policy"], "outcomes.jsonl"), {q["question"]: q["golden_answers"] for q in labelled}
    assert len({o["question"] for o in outcomes}) == 4
    assert all(o["verdict"] == (o["answer"] in golden[o["question"]]) for o in outcomes)
    assert [facts["gold_labels"] for facts in spent(folders).values()] == [0, 0, 4]
    assert sum(facts["judge_calls"] for facts in spent(folders).values()) == 0


def test_search_r1_has_the_same_questions_in_every_round(scripted_run):
    run = scripted_run(recipe="search_r1", policy_tasks=16, pg_max_steps=0, policy_prompts=16)
    round_of(run)
    for role in ROLES:
        PHASES[role].run_phase(run, 2)
    first, second = (
        {o["question"] for o in rows(run_dir.phase_dir(run, number, "policy"), "outcomes.jsonl")} for number in (1, 2)
    )
    assert first == second and len(first) == 16


def test_policy_tasks_limits_the_tasks_and_not_the_steps(scripted_run):
    folders = round_of(scripted_run(policy_tasks=1))
    assert len(rows(folders["prompt_generator"], "tasks.jsonl")) > 1
    outcomes = rows(folders["policy"], "outcomes.jsonl")
    assert len({o["question"] for o in outcomes}) == 1 and len(outcomes) == 2 * 2 * 4


def test_oracle_gives_the_verdicts_from_its_round_on(scripted_run, world):
    folders = round_of(scripted_run(recipe="oracle_judge", oracle_from_round=1, verify_threshold=0.0))
    oracle = Oracle(world)
    formed = [d for d in rows(folders["prompt_generator"], "drafts.jsonl") if d["well_formed"]]
    assert formed and all(d["votes"] == [oracle.right(d["question"], d["answer"])] * 5 for d in formed)
    facts = spent(folders)
    assert facts["prompt_generator"]["gold_labels"] > 0 and facts["prompt_generator"]["judge_calls"] == 0
    assert facts["reward_model"]["gold_labels"] == 0


def test_oracle_is_not_asked_before_its_round(scripted_run):
    folders = round_of(scripted_run(recipe="oracle_judge", oracle_from_round=2))
    assert (
        all(facts["gold_labels"] == 0 for facts in spent(folders).values())
        and spent(folders)["policy"]["judge_calls"] > 0
    )


def test_injected_triples_join_the_data_of_their_round(scripted_run):
    # 0.25 * 2 rounds * 2 steps * 4 prompts * 2 samples = 8 right and 8 wrong ones
    run = scripted_run(inject_round=1, inject_share=0.25)
    folders = round_of(run)
    labelled = rows(folders["reward_model"], "labelled.jsonl")
    added = [t for t in labelled if t.get("injected")]
    assert len(added) == 16 and sum(t["label"] for t in added) == 8 and len(labelled) > 16
    assert spent(folders)["reward_model"]["gold_labels"] == 16
    for role in ROLES:
        PHASES[role].run_phase(run, 2)
    assert not any(t.get("injected") for t in rows(run_dir.phase_dir(run, 2, "reward_model"), "labelled.jsonl"))


# --- what is measured of a round


@pytest.fixture(scope="module")
def measured(config, tmp_path_factory) -> Path:
    """Round 1 of the default recipe by the script, evaluated."""
    run = new_run(tmp_path_factory.mktemp("runs") / "measured", replace(config, **ROOMY))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asl_min.sampling.generate.Generator", ScriptedSampler)
        round_of(run)
        evaluate_round(run, 1)
    return run


def test_round_summary_has_the_budget_and_no_gold(measured):
    found = round_summary(measured, 1)
    facts = [json.loads((run_dir.phase_dir(measured, 1, role) / "done.json").read_text()) for role in ROLES]
    assert all(found[key] == sum(f[key] for f in facts) for key in BUDGET)
    assert found["rollouts"] == found["episodes"] + found["judge_calls"] and found["context_tokens"] > found["tokens"]
    drafts = rows(run_dir.phase_dir(measured, 1, "prompt_generator"), "drafts.jsonl")
    assert found["pg_reward"] == pytest.approx(sum(d["reward"] for d in drafts) / len(drafts))
    assert (
        found["gold_labels"] == 0 and min(found["judge_calls"], found["episodes"]) > 0 and found["optimizer_steps"] > 0
    )


def test_trace_explains_every_logged_reward_and_row(measured):
    found = round_summary(measured, 1)["trace"]
    assert found["rewards_explained"] == dict.fromkeys(ROLES, 1.0)
    assert found["lineage"] == dict.fromkeys(["tasks", "labelled", "outcomes", "meta_prompts"], 1.0)
    assert found["tool_use"] == {
        "prompt_generator": 1.0,
        "reward_model": 0.0,
        "policy": 0.0,
    }  # the script's judge and policy do not search
    assert found["tool_same"] == {"prompt_generator": 1.0, "reward_model": None, "policy": None}


def test_trace_finds_a_reward_from_elsewhere(measured, tmp_path):
    run = copy_of(measured, tmp_path / "run", *ROLES)
    file = run_dir.phase_dir(run, 1, "policy") / "episodes.jsonl"
    changed = [e | {"reward": e["reward"] + 0.5} if i == 0 else e for i, e in enumerate(rows(file.parent, file.name))]
    rewrite(file, changed)
    assert evaluate_round(run, 1)["trace"]["rewards_explained"]["policy"] == 1 - 1 / len(changed)


def test_trace_finds_a_task_from_elsewhere(measured, tmp_path):
    run = copy_of(measured, tmp_path / "run", *ROLES)
    file = run_dir.phase_dir(run, 1, "policy") / "outcomes.jsonl"
    outcomes = [o | {"question": "Where?"} for o in rows(file.parent, file.name)]
    rewrite(file, outcomes)
    assert evaluate_round(run, 1)["trace"]["lineage"]["outcomes"] == 0.0


def test_frozen_policy_is_the_base_whatever_was_learnt(config):
    requests = roles.solve_requests(["What is the capital of France?"], 4, 0)
    learnt, fresh = Agent(config, {}), Agent(config, {})
    with torch.no_grad():
        for name, weight in learnt.model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    frozen, now, base = (
        agent.rollout("policy", requests, base=off) for agent, off in ((learnt, True), (learnt, False), (fresh, False))
    )
    assert [e.ids for e in frozen] == [e.ids for e in base] != [e.ids for e in now]


@pytest.mark.parametrize(("recipe", "role"), [("asl_gen_rm", "reward_model"), ("seif", "policy")])
def test_judge_that_is_evaluated_is_the_one_that_judges(recipe, role, changed, monkeypatch):
    agent = SimpleNamespace(config=changed(recipe=recipe, round_rollouts=100), as_role=lambda *asked: asked)
    monkeypatch.setattr(evaluate.roles, "judge", lambda asked, *_: [asked])
    assert evaluate._judge(agent, []) == [(role, 1.0)]
