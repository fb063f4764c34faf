"""The three real phases and the evaluation at their smallest: on a random base that writes anything, and with a script
in the place of the sampler, whose tasks, answers and verdicts are known."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import Scripted, rewrite
from safetensors.torch import load_file

from asl_min import protocol, rewards, roles, train_policy, train_prompt_generator, train_reward_model
from asl_min.corpus import load_questions, read_jsonl
from asl_min.episode import Task
from asl_min.evaluate import evaluate_round
from asl_min.model import ROLES, load_backbone
from asl_min.recipes import asl_gen_rm
from asl_min.rollout import SEED_STRIDE
from asl_min.run import gold, run_dir
from asl_min.run.errors import InputError
from asl_min.tools.report import table, write_report
from asl_min.world.task_quality import round_quality

PHASES = {"prompt_generator": train_prompt_generator, "reward_model": train_reward_model, "policy": train_policy}
WRITES = {
    "prompt_generator": ["drafts.jsonl", "tasks.jsonl", "verification.jsonl"],
    "reward_model": ["labelled.jsonl"],
    "policy": ["meta_prompts.jsonl", "outcomes.jsonl"],
}


def rows(folder: Path, name: str) -> list[dict]:
    return [row for _, row in read_jsonl(folder / name)]


def weights(run: Path, round_number: int, role: str) -> dict[str, torch.Tensor]:
    return load_file(run_dir.phase_dir(run, round_number, role) / "adapter" / "adapter_model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def new_run(folder: Path, config) -> Path:
    run_dir.create(folder, config)
    return folder


# --- a random base


@pytest.fixture(scope="module")
def garbage(config, tmp_path_factory) -> Path:
    """A run whose first round was played, and evaluated before and after, by the random base."""
    run = new_run(tmp_path_factory.mktemp("runs") / "garbage", config)
    evaluate_round(run, 0)
    for role in ROLES:
        PHASES[role].run_phase(run, 1)
    evaluate_round(run, 1)
    return run


@pytest.mark.parametrize("role", ROLES)
def test_phase_writes_its_files(garbage, role):
    folder = run_dir.phase_dir(garbage, 1, role)
    for name in [
        *WRITES[role],
        "episodes.jsonl",
        "done.json",
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
    ]:
        assert (folder / name).is_file(), name
    assert not list(folder.rglob("*.tmp"))
    assert {"steps", "episodes", "tokens", "seconds"} <= set(json.loads((folder / "done.json").read_text()))


def test_phase_logs_one_line_a_step(garbage, config):
    found = rows(run_dir.phase_dir(garbage, 1, "prompt_generator"), "metrics.jsonl")
    assert [(r["round"], r["phase"], r["step"]) for r in found] == [
        (1, "prompt_generator", step) for step in range(config.pg_max_steps)
    ]
    assert all(
        r[key] >= 0
        for r in found
        for key in ("seconds_rollout", "seconds_judging", "seconds_update", "frac_reward_zero_std", "well_formed_share")
    )
    assert all(sum(v for k, v in r.items() if k.startswith("finish_")) == pytest.approx(1) for r in found)


def test_episode_file_holds_the_first_and_the_last_step(garbage, config):
    found = rows(run_dir.phase_dir(garbage, 1, "prompt_generator"), "episodes.jsonl")
    assert len(found) == 2 * config.pg_prompts * config.pg_samples
    assert all(len(r["ids"]) == len(r["mask"]) <= config.max_episode_tokens for r in found)


def test_every_draft_is_kept_malformed_ones_too(garbage, config):
    found = rows(run_dir.phase_dir(garbage, 1, "prompt_generator"), "drafts.jsonl")
    assert len(found) == config.pg_max_steps * config.pg_prompts * config.pg_samples
    assert all(r["reward"] == 0 and r["question"] is None for r in found if not r["well_formed"])


def test_phase_without_data_leaves_the_weights(garbage):
    """The random base writes no task, so nothing is judged or solved, and the same adapter is handed on."""
    assert rows(run_dir.phase_dir(garbage, 1, "prompt_generator"), "tasks.jsonl") == []
    assert same(weights(garbage, 1, "prompt_generator"), weights(garbage, 1, "policy"))
    assert json.loads((run_dir.phase_dir(garbage, 1, "reward_model") / "done.json").read_text())["steps"] == 0


@pytest.mark.parametrize("round_number", [0, 1])
def test_evaluation_measures_every_role(garbage, round_number):
    results = json.loads((run_dir.phase_dir(garbage, round_number, "evaluation") / "results.json").read_text())
    assert {"hop1", "hop2", "hop3", "mean", "interval", "sub_em"} <= set(results["accuracy"]) & set(
        results["accuracy_greedy"]
    )
    assert (
        0 <= results["accuracy"]["mean"] <= 1
        and 0 <= results["grm"]["balanced_accuracy"] <= 1
        and results["pg"]["well_formed"] == 0
    )
    assert (results["phase"] is None) == (round_number == 0)


def test_finished_evaluation_is_kept(garbage):
    file = run_dir.phase_dir(garbage, 0, "evaluation") / "results.json"
    written = file.stat().st_mtime_ns
    assert evaluate_round(garbage, 0) == json.loads(file.read_text()) and file.stat().st_mtime_ns == written


def test_report_shows_every_kept_episode_of_a_run(garbage, tmp_path):
    run = shutil.copytree(garbage, tmp_path / "run")
    text = write_report(run).read_text()
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    training = [e for e in data["episodes"] if e["role"] != "evaluation"]
    assert len(training) == sum(len(rows(run_dir.phase_dir(run, 1, role), "episodes.jsonl")) for role in ROLES) > 0
    assert all(sum(value for _, value in e["terms"]) == pytest.approx(e["reward"]) for e in training)
    assert all(e["malformed"] for e in training) and text.count("<figure>") >= 2


def test_round_after_one_that_kept_no_task_starts_from_topics_again(garbage, tmp_path):
    run = shutil.copytree(garbage, tmp_path / "run")
    train_prompt_generator.run_phase(run, 2)
    drafts = (run_dir.phase_dir(run, 2, "prompt_generator") / "episodes.jsonl").read_text().splitlines()
    assert {json.loads(line)["prompt"] for line in drafts} == {"task_from_topic"}


def test_evaluation_of_an_unfinished_round_is_refused(garbage):
    with pytest.raises(InputError, match="not finished"):
        evaluate_round(garbage, 2)


def copy_of(run: Path, folder: Path, *finished: str, **values) -> Path:
    """The first round of a run with only these phases in it; `values` replace those of its config."""
    run_dir.create(folder, replace(run_dir.read_config(run), **values))
    for role in finished:
        shutil.copytree(run_dir.phase_dir(run, 1, role), run_dir.phase_dir(folder, 1, role))
    return folder


def test_unfinished_phase_starts_clean_and_repeats_itself(garbage, config, tmp_path):
    run = copy_of(garbage, tmp_path / "run", "prompt_generator")
    folder = run_dir.phase_dir(run, 1, "prompt_generator")
    (folder / "done.json").unlink()
    (folder / "left_over.jsonl").write_text("{}")
    train_prompt_generator.run_phase(run, 1)
    assert not (folder / "left_over.jsonl").exists()
    assert len(rows(folder, "metrics.jsonl")) == config.pg_max_steps
    assert same(weights(run, 1, "prompt_generator"), weights(garbage, 1, "prompt_generator"))
    assert rows(folder, "episodes.jsonl") == rows(run_dir.phase_dir(garbage, 1, "prompt_generator"), "episodes.jsonl")


@pytest.mark.parametrize(
    ("role", "round_number", "finished", "missing"),
    [
        ("reward_model", 1, [], "prompt_generator of round 1"),
        ("policy", 1, [], "(prompt_generator|reward_model) of round 1"),
        ("policy", 1, ["prompt_generator"], "reward_model of round 1"),
        ("prompt_generator", 2, ["prompt_generator", "reward_model"], "policy of round 1"),
    ],
)
def test_phase_after_one_that_was_not_run_is_refused(garbage, tmp_path, role, round_number, finished, missing):
    run = copy_of(garbage, tmp_path / "run", *finished)
    with pytest.raises(InputError, match=missing):
        PHASES[role].run_phase(run, round_number)


@pytest.mark.parametrize(("role", "before"), [("reward_model", "prompt_generator"), ("policy", "reward_model")])
def test_phase_after_one_that_was_interrupted_is_refused(garbage, tmp_path, role, before):
    """All files are there but the mark of the end."""
    run = copy_of(garbage, tmp_path / "run", *ROLES[: ROLES.index(before) + 1])
    (run_dir.phase_dir(run, 1, before) / "done.json").unlink()
    with pytest.raises(InputError, match=f"{before} of round 1 is not finished"):
        PHASES[role].run_phase(run, 1)


def test_refused_phase_leaves_nothing_behind(garbage, tmp_path):
    run = copy_of(garbage, tmp_path / "run", "prompt_generator")
    (run_dir.phase_dir(run, 1, "prompt_generator") / "done.json").unlink()
    with pytest.raises(InputError):
        train_reward_model.run_phase(run, 1)
    assert not run_dir.is_done(run, 1, "reward_model")


def test_phase_in_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        train_prompt_generator.run_phase(tmp_path, 1)


def test_phase_script_ends_with_one_line_and_code_2_on_bad_input(tmp_path, script, capsys):
    code, said = script("asl_min.train_policy", "--run", tmp_path, "--round", 1), capsys.readouterr().err
    assert code == 2 and said.startswith("error: ") and said.count("\n") == 1


# --- a run folder


def test_run_folder_accepts_the_same_config_and_more_rounds(config, tmp_path):
    run = new_run(tmp_path / "run", config)
    run_dir.create(run, replace(config, rounds=config.rounds + 1))
    assert run_dir.read_config(run) == replace(config, rounds=config.rounds + 1)


def test_run_folder_accepts_other_ways_to_compute_the_same(config, tmp_path):
    run, here = new_run(tmp_path / "run", config), {"threads": 3, "trackers": "tensorboard", "server_folder": "x"}
    run_dir.create(run, replace(config, **here))
    assert run_dir.read_config(run) == replace(config, **here)


def test_run_folder_refuses_another_config(config, tmp_path):
    run = new_run(tmp_path / "run", config)
    run_dir.begin(run, 0, "evaluation")
    with pytest.raises(InputError, match="seed = 0, not 1"):
        run_dir.create(run, replace(config, seed=1))


@pytest.fixture
def all_done(tmp_path) -> Path:
    """A run folder in which every phase of two rounds is marked as done."""
    for number in (1, 2):
        for role in ROLES:
            run_dir.finish(run_dir.begin(tmp_path, number, role), {})
    return tmp_path


def test_shared_adapter_is_the_last_phases(config, all_done):
    found = run_dir.latest_adapters(all_done, config, 2, "reward_model")
    assert found == dict.fromkeys(ROLES, all_done / "round_02" / "prompt_generator" / "adapter")
    assert run_dir.latest_adapters(all_done, config, 1, "prompt_generator") == {}


def test_per_role_adapters_are_each_roles_last(changed, all_done):
    found = run_dir.latest_adapters(all_done, changed(adapters="per_role"), 2, "reward_model")
    assert {role: str(path.parent.relative_to(all_done)) for role, path in found.items()} == {
        "prompt_generator": "round_02/prompt_generator",
        "reward_model": "round_01/reward_model",
        "policy": "round_01/policy",
    }


def test_adapters_after_a_round_include_the_policys(config, all_done):
    assert run_dir.latest_adapters(all_done, config, 1, None)["policy"] == all_done / "round_01" / "policy" / "adapter"


# --- gold


LEAKS = [
    ("prompt_generator", roles, "task_requests"),
    ("prompt_generator", roles, "judge"),
    ("prompt_generator", roles, "answer_of"),
]


@pytest.mark.parametrize(
    ("role", "module", "function"), LEAKS, ids=[f"{m.__name__.split('.')[-1]}.{f}" for _, m, f in LEAKS]
)
def test_role_that_reads_gold_ends_the_phase(scripted, config, tmp_path, monkeypatch, role, module, function):
    honest = getattr(module, function)

    def leak(*args, **kwargs):
        load_questions(config.path(config.questions))
        return honest(*args, **kwargs)

    run = new_run(tmp_path / "run", replace(config, **ROOMY))
    monkeypatch.setattr(module, function, leak)
    with pytest.raises(gold.GoldAccessError, match="during round 1, prompt_generator"):
        PHASES[role].run_phase(run, 1)
    assert not run_dir.is_done(run, 1, role)
    load_questions(config.path(config.questions))  # and the guard is released


def gold_files(run: Path, config) -> dict[str, Path]:
    shown = run_dir.phase_dir(run, 0, "evaluation") / "results.json"
    return {
        "questions": config.path(config.questions),
        "judgments": config.path(config.judgments),
        "an evaluation": shown,
        "summary": run / "summary.json",
    }


@pytest.mark.parametrize("name", ["questions", "judgments", "an evaluation", "summary"])
def test_gold_files_cannot_be_opened_in_a_phase(garbage, config, tmp_path, monkeypatch, name):
    run = copy_of(garbage, tmp_path / "run")
    file = gold_files(run, config)[name]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()

    def leak(*args):
        return file.read_text()

    monkeypatch.setattr(roles, "task_requests", leak)
    with pytest.raises(gold.GoldAccessError):
        train_prompt_generator.run_phase(run, 1)


# --- a script in the place of the sampler


def write(text: str, seed: int) -> str:
    """The Prompt Generator searches and sets no task, or asks for the capital of its topic with A or B as answer; the
    policy says A or B; the judge holds A for correct."""
    prompt = text.split("<|assistant|>")[0].removeprefix("<|user|>").removesuffix("<|end|>")
    if prompt.startswith("solve:"):
        return f"<answer>{'A' if seed // SEED_STRIDE % 3 else 'B'}</answer>"
    if prompt.startswith("judge:"):
        return f"<answer>conclusion: {'correct' if prompt.endswith('answer: A') else 'wrong'}</answer>"
    topic = prompt.rpartition(" on: ")[2]
    if "<tool_response>" not in text:
        return protocol.render_tool_call(topic[:12])
    kind = seed // SEED_STRIDE % 4
    return (
        f"<question>What is the capital of {topic}?</question><answer>{'B' if kind == 1 else 'A'}</answer>"
        if kind
        else "<answer>no task</answer>"
    )


class ScriptedSampler(Scripted):
    def __init__(self, model, chat):
        super().__init__(chat, write=write)


@pytest.fixture
def scripted(monkeypatch):
    monkeypatch.setattr("asl_min.sampling.generate.Generator", ScriptedSampler)


ROOMY = {
    "attempts": 6,
    "verify_samples": 5,
    "pg_prompts": 4,
    "policy_samples": 4,
    "max_turn_tokens": 96,
    "max_episode_tokens": 2400,  # three pages of countries
}


@pytest.fixture(scope="module")
def played(config, tmp_path_factory) -> Path:
    """A run whose first round was played by the script, in the mode asl_hybrid."""
    run = new_run(tmp_path_factory.mktemp("runs") / "played", replace(config, **ROOMY))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asl_min.sampling.generate.Generator", ScriptedSampler)
        for role in ROLES:
            PHASES[role].run_phase(run, 1)
        evaluate_round(run, 1)
    return run


@pytest.fixture(scope="module")
def drafts(played) -> list[dict]:
    return rows(run_dir.phase_dir(played, 1, "prompt_generator"), "drafts.jsonl")


def test_drafts_of_every_kind_occur(drafts):
    assert {(d["well_formed"], d["answer"]) for d in drafts} == {(False, None), (True, "A"), (True, "B")}


def test_votes_are_on_the_tasks_own_answer(drafts):
    assert all(
        d["votes"] == [d["answer"] == "A"] * 5 and d["verified"] == (d["answer"] == "A")
        for d in drafts
        if d["well_formed"]
    )


def test_reward_of_a_verified_draft_is_the_entropy_of_its_verdicts(drafts):
    verified = [d for d in drafts if d["answer"] == "A"]
    assert all(len(d["verdicts"]) == 6 for d in verified)
    assert [d["reward"] for d in verified] == [asl_gen_rm.entropy(d["verdicts"]) for d in verified]
    assert any(d["reward"] > 0 for d in verified)


def test_other_drafts_earn_nothing_and_are_not_solved(drafts):
    assert all(d["reward"] == 0 and d["verdicts"] == [] for d in drafts if d["answer"] != "A")


def test_unverified_drafts_are_solved_where_their_verdicts_are_data(played, scripted, tmp_path):
    run = copy_of(played, tmp_path / "run", recipe="asl_gen_rm")
    train_prompt_generator.run_phase(run, 1)
    found = [d for d in rows(run_dir.phase_dir(run, 1, "prompt_generator"), "drafts.jsonl") if d["answer"] == "B"]
    assert found and all(len(d["verdicts"]) == 6 and d["reward"] == 0 for d in found)


def test_topics_asked_are_the_corpus_titles(played, drafts):
    titles = {
        row["contents"].split("\n")[0].strip('"')
        for row in rows(Path(run_dir.read_config(played).corpus).parent, "corpus.jsonl")
    }
    asked = {d["parent"]["topic"] for d in drafts if d["well_formed"]}
    assert asked and asked <= titles


def test_kept_tasks_are_the_distinct_rewarded_drafts(played, drafts):
    found = rows(run_dir.phase_dir(played, 1, "prompt_generator"), "tasks.jsonl")
    kept = rewards.distinct(Task.of_record(d) for d in drafts if d["reward"] > 0)
    assert [Task.of_record(row) for row in found] == list(kept.values())
    assert len(found) > 1


def test_verification_data_is_every_attempt_at_a_verified_task(played, drafts):
    found = rows(run_dir.phase_dir(played, 1, "prompt_generator"), "verification.jsonl")
    assert [(t["question"], t["verdict"]) for t in found] == [
        (d["question"], v) for d in drafts if d["answer"] == "A" for v in d["verdicts"]
    ]
    assert all(t["verdict"] == (t["answer"] == "A") and t["reference"] == "A" and t["verified"] for t in found)


def test_reward_that_trains_includes_the_format_bonus(played):
    """Two turns without a think block, the tool used: (0 + 1) / 4 beside the task's reward."""
    found = rows(run_dir.phase_dir(played, 1, "prompt_generator"), "episodes.jsonl")
    assert all(e["reward"] == pytest.approx(e["meta"]["task"]["reward"] + 0.25) for e in found)


def test_labelled_data_is_balanced_and_labelled_by_the_reference(played):
    found = rows(run_dir.phase_dir(played, 1, "reward_model"), "labelled.jsonl")
    counts = Counter((t["question"], t["label"]) for t in found)
    assert found and all(counts[q, True] == counts[q, False] for q, _ in counts)
    assert all(t["label"] == (t["answer"] == "A") for t in found)


def test_judge_that_is_always_right_is_rewarded_with_one(played):
    assert {r["reward"] for r in rows(run_dir.phase_dir(played, 1, "reward_model"), "metrics.jsonl")} == {1.0}


def test_policy_reward_is_the_share_of_verdicts_correct(played):
    folder = run_dir.phase_dir(played, 1, "policy")
    outcomes = rows(folder, "outcomes.jsonl")
    assert all(o["verdict"] == (o["answer"] == "A") for o in outcomes)
    for metrics in rows(folder, "metrics.jsonl"):
        verdicts = [o["verdict"] for o in outcomes if o["step"] == metrics["step"]]
        assert metrics["reward"] == pytest.approx(sum(verdicts) / len(verdicts))


def test_policy_is_trained_on_the_kept_tasks_alone(played):
    tasks = {t["question"] for t in rows(run_dir.phase_dir(played, 1, "prompt_generator"), "tasks.jsonl")}
    assert {o["question"] for o in rows(run_dir.phase_dir(played, 1, "policy"), "outcomes.jsonl")} <= tasks


def test_next_meta_prompts_follow_the_accuracy_on_each_question(played):
    folder = run_dir.phase_dir(played, 1, "policy")
    verdicts: dict[str, list[bool]] = {}
    for outcome in rows(folder, "outcomes.jsonl"):
        verdicts.setdefault(outcome["question"], []).append(outcome["verdict"])
    found = {m["fields"]["question"]: m["fields"]["direction"] for m in rows(folder, "meta_prompts.jsonl")}
    assert found == {q: "harder" if sum(v) >= len(v) / 2 else "easier" for q, v in verdicts.items()}


def test_policy_phase_moves_the_shared_adapter(played):
    assert not same(weights(played, 1, "policy"), weights(played, 1, "reward_model"))


def test_evaluation_of_a_round_measures_its_tasks_and_labels(played):
    found = json.loads((run_dir.phase_dir(played, 1, "evaluation") / "results.json").read_text())["phase"]
    # the script answers A to everything, which is never right in the world; so the judge's labels for A are wrong, for
    # B right
    assert (found["true_accuracy"], found["labels_right"], found["kept"]["right"]) == (0.0, 0.5, 0.0)
    assert found["judge_reward"] > 0 and found["n_labels"] > 0


def test_second_round_starts_from_the_first_ones_meta_prompts(played, scripted, tmp_path):
    run = copy_of(played, tmp_path / "run", *ROLES)
    train_prompt_generator.run_phase(run, 2)
    episodes = rows(run_dir.phase_dir(run, 2, "prompt_generator"), "episodes.jsonl")
    known = [m["fields"] for m in rows(run_dir.phase_dir(played, 1, "policy"), "meta_prompts.jsonl")]
    assert all(e["prompt"] == "task_from_question" and e["fields"] in known for e in episodes)


def test_phase_ends_when_it_has_tasks_enough(scripted, changed, tmp_path):
    run = new_run(tmp_path / "run", changed(**ROOMY | {"pg_max_steps": 6, "max_tasks_first": 1}))
    train_prompt_generator.run_phase(run, 1)
    found = rows(run_dir.phase_dir(run, 1, "prompt_generator"), "metrics.jsonl")
    assert len(found) < 6 and found[-1]["tasks"] >= 1 and all(r["tasks"] == 0 for r in found[:-1])


def test_phase_ends_on_its_plateau(played, scripted, tmp_path):
    run = copy_of(played, tmp_path / "run", "prompt_generator", grm_plateau=4, grm_max_steps=9)
    train_reward_model.run_phase(run, 1)
    assert len(rows(run_dir.phase_dir(run, 1, "reward_model"), "metrics.jsonl")) == 4


def test_self_labels_are_the_judges_own_verdicts_on_unverified_tasks_too(played, scripted, tmp_path):
    run = copy_of(played, tmp_path / "run", "prompt_generator", recipe="asl_gen_rm")
    file = run_dir.phase_dir(run, 1, "prompt_generator") / "verification.jsonl"
    turned = [t | {"verified": False, "verdict": not t["verdict"]} for t in rows(file.parent, file.name)]
    rewrite(file, turned)
    train_reward_model.run_phase(run, 1)
    found = rows(run_dir.phase_dir(run, 1, "reward_model"), "labelled.jsonl")
    assert found and all(t["label"] == t["verdict"] for t in found)


def test_reference_labels_are_drawn_from_verified_tasks_alone(played, scripted, tmp_path):
    run = copy_of(played, tmp_path / "run", "prompt_generator")
    file = run_dir.phase_dir(run, 1, "prompt_generator") / "verification.jsonl"
    triples = rows(file.parent, file.name)
    dropped = triples[0]["question"]
    rewrite(file, [t | {"verified": t["question"] != dropped} for t in triples])
    train_reward_model.run_phase(run, 1)
    found = rows(run_dir.phase_dir(run, 1, "reward_model"), "labelled.jsonl")
    assert found and dropped not in {t["question"] for t in found}


def test_query_that_no_file_can_hold_does_not_end_the_phase(changed, tmp_path, monkeypatch):
    r"""JSON may spell half of a surrogate pair: "\ud800"."""

    class Sampler(Scripted):
        def __init__(self, model, chat):
            super().__init__(
                chat,
                write=lambda text, seed: (
                    '<tool_call>{"name": "retrieve", "arguments": {"query": "\\ud800"}}</tool_call>'
                ),
            )

    monkeypatch.setattr("asl_min.sampling.generate.Generator", Sampler)
    run = new_run(tmp_path / "run", changed(**ROOMY))
    train_prompt_generator.run_phase(run, 1)
    assert run_dir.is_done(run, 1, "prompt_generator")


# --- one adapter a role


@pytest.fixture(scope="module")
def per_role(played, tmp_path_factory) -> Path:
    """The first two phases by the script, with an adapter for each role."""
    run = tmp_path_factory.mktemp("runs") / "per_role"
    new_run(run, replace(run_dir.read_config(played), adapters="per_role"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asl_min.sampling.generate.Generator", ScriptedSampler)
        train_prompt_generator.run_phase(run, 1)
        train_reward_model.run_phase(run, 1)
    return run


def test_per_role_phase_saves_its_own_adapter(per_role):
    found = {
        role: (run_dir.phase_dir(per_role, 1, role) / "adapter" / "adapter_model.safetensors").is_file()
        for role in ROLES
    }
    assert found == {"prompt_generator": True, "reward_model": True, "policy": False}


def test_per_role_phase_trains_its_role_and_no_other(per_role):
    config = run_dir.read_config(per_role)
    loaded = dict(load_backbone(config, run_dir.latest_adapters(per_role, config, 1, "policy")).named_parameters())
    trained = {
        role: any(p.abs().sum() > 0 for name, p in loaded.items() if f"lora_B.{role}." in name) for role in ROLES
    }
    # lora_B of a new adapter is 0; the judge earned the same reward in every episode, so it learnt nothing
    assert config.adapters == "per_role" and trained == {
        "prompt_generator": True,
        "reward_model": False,
        "policy": False,
    }


def test_each_role_acts_with_its_own_adapter(played, tmp_path, monkeypatch):
    acted = set()

    class Sampler(ScriptedSampler):
        def __init__(self, model, chat):
            super().__init__(model, chat)
            self.model = model

        def generate(self, contexts, seeds, max_new, temperature, known=None):
            acted.update(
                (self.chat.decode(list(c)).split()[0].removeprefix("<|user|>"), self.model.active_adapter)
                for c in contexts
            )
            return super().generate(contexts, seeds, max_new, temperature)

    monkeypatch.setattr("asl_min.sampling.generate.Generator", Sampler)
    train_prompt_generator.run_phase(copy_of(played, tmp_path / "run", adapters="per_role"), 1)
    assert acted == {("set", "prompt_generator"), ("solve:", "policy"), ("judge:", "reward_model")}


# --- a corpus of one's own


def test_judge_reward_is_reported_without_an_oracle(played):
    folders = {role: run_dir.require(played, 1, role) for role in ROLES}
    with_oracle, without = (
        round_quality(folders, replace(run_dir.read_config(played), oracle=o)) for o in ("target", None)
    )
    assert without == {"judge_reward": with_oracle["judge_reward"]} and 0 <= without["judge_reward"] <= 1
    assert len(with_oracle) > 1


def test_table_has_no_column_for_what_was_not_measured():
    entry = {"accuracy": None, "policy_judge_reward": 0.5, "n_tasks": 3, "episodes": 10, "seconds": 2}
    assert table([{"rounds": [entry]}]) == [
        ["round", "judged", "tasks", "episodes", "seconds"],
        ["0", "50.0", "3", "10", "2"],
    ]


def test_script_of_a_finished_phase_leaves_it_as_it_is(played, script, capsys):
    before = {f: f.stat().st_mtime_ns for f in (played / "round_01" / "policy").rglob("*") if f.is_file()}
    assert script("asl_min.train_policy", "--run", played, "--round", 1) == 0
    assert "is finished" in capsys.readouterr().out
    assert {f: f.stat().st_mtime_ns for f in (played / "round_01" / "policy").rglob("*") if f.is_file()} == before
