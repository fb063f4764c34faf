"""Recipes: what each file says, what its arm does in the real phases at their smallest, and that only those which say
so reach gold."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TARGET
from helpers import ROOT, rewrite
from test_phases import PHASES, ROOMY, ScriptedSampler, copy_of, new_run, rows

from asl_min import baselines, roles, train_policy, train_prompt_generator
from asl_min.config import Config, check, gold_keys, load_config
from asl_min.corpus import load_judgments, load_questions, write_jsonl
from asl_min.evaluate import chosen_per_hop, evaluate_round
from asl_min.model import ROLES
from asl_min.phase import Agent, open_gold
from asl_min.run import gold, run_dir
from asl_min.run.errors import InputError
from asl_min.tools.summary import BUDGET, round_summary
from asl_min.world.oracle import Oracle

RECIPES = {path.stem: load_config(path) for path in (ROOT / "configs" / "recipes").glob("*.yaml")}
GOLD = {
    "search_r1",
    "search_r1_16",
    "search_r1_64",
    "search_r1_1",
    "search_r1_4",
    "oracle_grm_late",
    "inject_early",
    "inject_late",
    "self_oracle_late",
    "self_inject_late",
}


# --- the files


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_named_as_its_file(name):
    assert RECIPES[name].recipe == name


def test_asl_is_the_miniature():
    assert RECIPES["asl"] == load_config(ROOT / "configs" / "tiny.yaml") == Config(adapters="per_role")


def test_recipes_with_gold_are_those_that_say_so():
    assert {name for name, config in RECIPES.items() if any(gold_keys(config).values())} == GOLD
    comments = {path.stem: "Gold, openly" in path.read_text() for path in (ROOT / "configs" / "recipes").glob("*.yaml")}
    assert {name for name, says in comments.items() if says} == GOLD


@pytest.mark.parametrize("name", sorted(set(RECIPES) - GOLD))
def test_zero_label_recipe_is_given_no_gold_in_any_phase(name):
    config = RECIPES[name]
    assert [open_gold(config, number, role) for number in range(1, config.rounds + 1) for role in ROLES] == [
        []
    ] * 3 * config.rounds


def test_every_arm_learns_at_the_same_rate():
    assert {config.learning_rate for config in RECIPES.values()} == {Config().learning_rate}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"policy_reward": "gold", "labelled_questions": None}, "labelled_questions"),
        ({"inject_round": 1, "labelled_judgments": None}, "labelled_judgments"),
        ({"oracle_from_round": 1, "oracle": None}, "oracle"),
        ({"labelled_questions": Config().questions}, "the questions of the evaluation"),
        ({"pg_reward": "fame"}, "pg_reward"),
        ({"policy_tasks": -1}, "policy_tasks"),
        ({"pg_samples": 1}, "pg_samples"),
    ],
)
def test_impossible_recipe_is_refused(values, said):
    with pytest.raises(InputError, match=said):
        check(values, "recipe.yaml")


# --- the labelled data


def queries(questions: list[dict]) -> set[tuple]:
    return {(q["metadata"]["start"], *q["metadata"]["path"]) for q in questions}


def test_labelled_questions_are_none_of_the_evaluations():
    held, train = load_questions(TARGET / "questions.jsonl"), load_questions(TARGET / "train_questions.jsonl")
    assert not queries(held) & queries(train) and not {q["question"] for q in held} & {q["question"] for q in train}
    assert [sum(q["metadata"]["hops"] == hops for q in train) for hops in (1, 2, 3)] == [300, 300, 300]


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
    test, validation = (chosen_per_hop(questions, Config().eval_per_hop, split) for split in ("test", "validation"))
    assert len(test) == len(validation) == 450 and not queries(test) & queries(validation)
    with pytest.raises(InputError, match="only 900 questions"):
        chosen_per_hop(questions, 300, "validation")


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
    monkeypatch.setattr("asl_min.phase.Generator", ScriptedSampler)
    return lambda **values: new_run(tmp_path / "run", replace(config, **ROOMY | values))


def round_of(run: Path) -> dict[str, Path]:
    """The three phases of round 1, run; their folders."""
    for role in ROLES:
        PHASES[role].run_phase(run, 1)
    return {role: run_dir.phase_dir(run, 1, role) for role in ROLES}


def spent(folders: dict[str, Path]) -> dict[str, dict]:
    return {role: json.loads((folder / "done.json").read_text()) for role, folder in folders.items()}


@pytest.mark.parametrize("method", ["absolute_zero", "r_zero", "drzero", "agent0"])
def test_baseline_needs_no_judge(scripted_run, method):
    solver = "reference" if method == "drzero" else method
    folders = round_of(scripted_run(pg_reward=method, policy_reward=solver, grm_max_steps=0, grm_labels="reference"))
    assert sum(facts["judge_calls"] + facts["gold_labels"] for facts in spent(folders).values()) == 0
    drafts, tasks, outcomes = (
        rows(folders[r], f)
        for r, f in (
            ("prompt_generator", "drafts.jsonl"),
            ("prompt_generator", "tasks.jsonl"),
            ("policy", "outcomes.jsonl"),
        )
    )
    formed = [d for d in drafts if d["well_formed"]]
    assert formed and all(len(d["verdicts"]) == 6 and d["votes"] == [] for d in formed)
    assert all(
        d["verdicts"] == [v is True for v in baselines.verdicts(d["answers"], baselines.target(d, method))]
        for d in formed
    )
    assert tasks and all(baselines.keeps(method, task) for task in tasks)
    targets = {task["question"]: baselines.target(task, solver) for task in tasks}
    assert outcomes and all(
        o["verdict"] == baselines.verdicts([o["answer"]], targets[o["question"]])[0] for o in outcomes
    )


def test_rule_reward_is_the_match_with_the_tasks_own_answer_and_the_format_bonus(scripted_run):
    folders = round_of(scripted_run(policy_reward="reference"))
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
        "policy_reward": "gold",
        "policy_tasks": 4,
        "labelled_questions": str(tmp_path / "labelled.jsonl"),
        "pg_max_steps": 0,
        "grm_max_steps": 0,
    }
    folders = round_of(scripted_run(**values))
    outcomes, golden = rows(folders["policy"], "outcomes.jsonl"), {q["question"]: q["golden_answers"] for q in labelled}
    assert len({o["question"] for o in outcomes}) == 4
    assert all(o["verdict"] == (o["answer"] in golden[o["question"]]) for o in outcomes)
    assert [facts["gold_labels"] for facts in spent(folders).values()] == [0, 0, 4]
    assert sum(facts["judge_calls"] for facts in spent(folders).values()) == 0


def test_search_r1_has_the_same_questions_in_every_round(scripted_run):
    run = scripted_run(policy_reward="gold", policy_tasks=16, pg_max_steps=0, grm_max_steps=0, policy_prompts=16)
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
    folders = round_of(scripted_run(oracle_from_round=1, verify_threshold=0.0))
    oracle = Oracle(world)
    formed = [d for d in rows(folders["prompt_generator"], "drafts.jsonl") if d["well_formed"]]
    assert formed and all(d["votes"] == [oracle.right(d["question"], d["answer"])] * 5 for d in formed)
    facts = spent(folders)
    assert facts["prompt_generator"]["gold_labels"] > 0 and facts["prompt_generator"]["judge_calls"] == 0
    assert facts["reward_model"]["gold_labels"] == 0


def test_oracle_is_not_asked_before_its_round(scripted_run):
    folders = round_of(scripted_run(oracle_from_round=2))
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
        patch.setattr("asl_min.phase.Generator", ScriptedSampler)
        round_of(run)
        evaluate_round(run, 1)
    return run


def test_round_summary_has_the_budget_and_no_gold(measured):
    found = round_summary(measured, 1)
    facts = [json.loads((run_dir.phase_dir(measured, 1, role) / "done.json").read_text()) for role in ROLES]
    assert all(found[key] == sum(f[key] for f in facts) for key in BUDGET)
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


def test_agent0_scales_the_advantages(scripted_run, monkeypatch):
    given = []
    honest = train_policy.Phase.update
    monkeypatch.setattr(
        train_policy.Phase,
        "update",
        lambda phase, groups, weights=None: given.append(weights) or honest(phase, groups, weights),
    )
    round_of(scripted_run(pg_reward="agent0", policy_reward="agent0", grm_max_steps=0))
    assert given[0] is None and all(0.6 <= w <= 1.0 for w in given[-1])  # the PG's update, then the policy's
