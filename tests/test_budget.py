"""Equal budgets, and tasks that the trained writer writes afresh for what is left of them; by the script of
test_phases. A policy step is 2 tasks of 4 episodes, with a judge 16 rollouts."""

import json

import pytest
from test_modes import scripted_run  # noqa: F401 (a fixture)
from test_phases import copy_of, new_run, rows
from test_recipes import round_of, spent

from asl_min import rewards, train_policy, train_prompt_generator
from asl_min.run import run_dir


@pytest.fixture
def killed(monkeypatch):
    """Calls `run_phase(run, 1)` with a kill at the nth call of a function, then again without."""

    def run_twice(phase, run, owner, name: str, nth: int) -> None:
        honest, calls = getattr(owner, name), []

        def dying(*args, **kwargs):
            calls.append(1)
            if len(calls) == nth:
                raise KeyboardInterrupt
            return honest(*args, **kwargs)

        monkeypatch.setattr(owner, name, dying)
        with pytest.raises(KeyboardInterrupt):
            phase.run_phase(run, 1)
        monkeypatch.setattr(owner, name, honest)
        phase.run_phase(run, 1)

    return run_twice


@pytest.mark.parametrize("recipe", ["asl_gen_rm", "asl_hybrid", "absolute_zero", "sharpening"])
def test_round_spends_its_rollouts_up_to_a_step(scripted_run, recipe):  # noqa: F811
    facts = spent(round_of(scripted_run(recipe=recipe, round_rollouts=600, policy_max_steps=1)))
    rollouts = sum(f["episodes"] + f["judge_calls"] for f in facts.values())
    assert abs(600 - rollouts) < 16 and facts["policy"]["steps"] > 1


def test_rollouts_that_do_not_last_end_the_first_phase_early(scripted_run):  # noqa: F811
    facts = spent(round_of(scripted_run(recipe="asl_gen_rm", round_rollouts=100, pg_max_steps=5)))
    assert facts["prompt_generator"]["steps"] == 1


def test_interrupted_policy_phase_spends_no_more(scripted_run, tmp_path, killed):  # noqa: F811
    run = scripted_run(round_rollouts=500)
    whole = round_of(run)["policy"]
    again = copy_of(run, tmp_path / "again", "prompt_generator", "reward_model")
    killed(train_policy, again, train_policy.Phase, "update", 3)
    folder = run_dir.phase_dir(again, 1, "policy")
    assert rows(folder, "outcomes.jsonl") == rows(whole, "outcomes.jsonl")
    episodes, last = (json.loads((f / "done.json").read_text())["episodes"] for f in (folder, whole))
    assert episodes == last


# --- fresh tasks


def test_trained_writer_writes_the_rounds_tasks_afresh(scripted_run):  # noqa: F811
    folders = round_of(scripted_run(recipe="r_zero", round_rollouts=500, fresh_share=0.25))
    folder = folders["prompt_generator"]
    drafts, tasks = rows(folder, "drafts.jsonl"), rows(folder, "tasks.jsonl")
    assert [d["fresh"] for d in drafts] == [False] * 16 + [True] * (len(drafts) - 16)  # two steps of 8
    assert tasks and all(t["fresh"] and t["kept"] for t in tasks)
    metrics = rows(folder, "metrics.jsonl")
    spent_fresh = [row["rollouts"] - metrics[1]["rollouts"] for row in metrics]
    assert spent_fresh[-2] < 0.25 * 500 <= spent_fresh[-1]
    assert metrics[-1]["rollouts"] == spent(folders)["prompt_generator"]["episodes"]
    assert 0 < spent(folders)["prompt_generator"]["optimizer_steps"] <= 2 * 2  # two minibatches a step


def test_fresh_tasks_end_when_the_policy_has_one_for_each_group(scripted_run):  # noqa: F811
    values = {"recipe": "r_zero", "round_rollouts": 330, "fresh_share": 1.0, "policy_samples": 8}
    metrics = rows(round_of(scripted_run(**values))["prompt_generator"], "metrics.jsonl")
    needed = [(330 - row["rollouts"]) / 8 for row in metrics]
    assert len(metrics) > 3 and metrics[-1]["tasks"] >= needed[-1] and metrics[-2]["tasks"] < needed[-2]


def test_interrupted_fresh_tasks_go_on(scripted_run, tmp_path, killed):  # noqa: F811
    run = scripted_run(recipe="r_zero", round_rollouts=500)
    train_prompt_generator.run_phase(run, 1)
    again = new_run(tmp_path / "again", run_dir.read_config(run))
    killed(train_prompt_generator, again, train_prompt_generator, "draft", 5)
    for name in ("drafts.jsonl", "tasks.jsonl"):
        whole, found = (rows(run_dir.phase_dir(r, 1, "prompt_generator"), name) for r in (run, again))
        assert found == whole and len(whole) > 0


def test_drzero_trains_the_policy_on_the_best_fresh_task_of_each_prompt(scripted_run):  # noqa: F811
    values = {"recipe": "dr_zero", "pg_samples": 1, "pg_prompts": 8, "round_rollouts": 500, "policy_samples": 2}
    folders = round_of(scripted_run(**values))
    drafts = rows(folders["prompt_generator"], "drafts.jsonl")
    trained, fresh = ([d for d in drafts if d["fresh"] is side] for side in (False, True))
    assert len(trained) == 16 and fresh and len(fresh) % 40 == 0 and not any(d["kept"] for d in trained)
    assert all(d["verdicts"] == [] for d in fresh)
    for group in rewards.by_prompt(fresh, 5):
        best = max(d["reward"] for d in group)
        assert [d["reward"] for d in group if d["kept"]] == ([best] if best else [])
    asked = rows(folders["prompt_generator"], "episodes.jsonl")
    assert {e["prompt"] for e in asked} == {"task_by_hops"} and {e["fields"]["hops"] for e in asked} <= set("1234")
    policy = rows(folders["policy"], "episodes.jsonl")
    assert policy and all(e["reward"] == (e["meta"]["verdict"] is True) for e in policy)  # no bonus
    assert rows(folders["policy"], "meta_prompts.jsonl") == []
