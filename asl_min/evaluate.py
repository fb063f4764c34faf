"""Evaluation: held-out accuracy by hop, the GRM on gold judgments, the PG's tasks by the oracle. The only code that
sees gold.

    python -m asl_min.evaluate --run runs/NAME --round 2
    python -m asl_min.evaluate --config configs/tiny.yaml --adapter some/peft/folder

Round 0 is the base model. Accuracy is exact match with any golden answer (substring match, SubEM, beside it), averaged
over relations (`metrics/accuracy.py`), at temperature 1 and greedy, with 95% bootstrap intervals over questions.
Nothing measured here is read by training; the gold guard would refuse it.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import CONFIG, OVERRIDES, adapter_folder, argument, start

    run = argument("--run", type=Path, metavar="DIR", help="run folder")
    number = argument("--round", type=int, metavar="N", default=0, help="round of the run, 0 for the base")
    adapter = argument("--adapter", type=adapter_folder, help="without --run: a peft adapter, for all three roles")
    start("asl_min.evaluate", __doc__, CONFIG, run, number, adapter, OVERRIDES)

import json
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from asl_min import recipes, rewards, roles
from asl_min.config import Config
from asl_min.corpus import in_split, load_judgments, load_questions, read_jsonl, topics, write_jsonl
from asl_min.episode import Episode, Task
from asl_min.metrics.accuracy import Answer, accuracy, found_pages, measures, sampled_accuracy
from asl_min.metrics.judging import judging
from asl_min.model import ROLES
from asl_min.phase import Agent
from asl_min.run import durable, run_dir, terminal
from asl_min.run.command import open_run
from asl_min.run.dry_run import plan, tell_plan
from asl_min.run.errors import InputError
from asl_min.run.machines import copy_run
from asl_min.run.shard import accelerator_of
from asl_min.tools.audit import trace
from asl_min.world.oracle import Oracle
from asl_min.world.task_quality import MeasuredTask, mean, measured, read_tasks, round_quality, shares

CONSISTENCY_SAMPLES = 3
VARIANTS = [{"direction": direction, "way": way} for way in ("width", "depth") for direction in ("harder", "easier")]


def evaluate_round(run: Path, round_number: int) -> dict:
    """Evaluate the adapters after a round (0: the base) and write `round_NN/evaluation/`; a finished evaluation is
    kept."""
    config, start = run_dir.read_config(run), time.time()
    copy_run(accelerator_of(config), run)
    if run_dir.is_done(run, round_number, "evaluation"):
        return json.loads((run_dir.phase_dir(run, round_number, "evaluation") / "results.json").read_text())
    folders = {role: run_dir.require(run, round_number, role) for role in ROLES} if round_number else {}
    agent = Agent(config, run_dir.latest_adapters(run, config, round_number, None))
    samples = 0 if round_number else config.eval_samples
    results, rows = evaluate_agent(agent, samples, judged_before(run, round_number, config))
    results |= {"phase": None, "frozen": None, "trace": None}
    if folders:
        results["phase"] = round_quality(folders, config)
        results["trace"] = trace(run, round_number, folders, config, agent.tool)
    if folders and config.oracle:
        tasks = read_tasks(folders["prompt_generator"] / "tasks.jsonl")
        results["frozen"] = base_policy(agent, tasks, Oracle.of(config.oracle))
    if agent.accelerator.is_main_process:
        folder = run_dir.begin(run, round_number, "evaluation")
        for name, table in rows.items():
            write_jsonl(folder / name, table)
        durable.write_text(folder / "results.json", json.dumps(results, indent=1))
        run_dir.finish(folder, {"seconds": round(time.time() - start, 1)})
    agent.accelerator.wait_for_everyone()
    return results


def judged_before(run: Path, round_number: int, config: Config) -> tuple[dict, list[dict]] | None:
    """What the evaluation before found of the judge, where it is still the same: it would find the same again."""
    if not round_number or config.adapters == "shared" or not run_dir.is_done(run, round_number - 1, "evaluation"):
        return None
    if run_dir.facts(run, round_number, recipes.load(config).judge_role)["optimizer_steps"]:
        return None
    folder = run_dir.phase_dir(run, round_number - 1, "evaluation")
    if run_dir.damage(folder) or not (found := json.loads((folder / "results.json").read_text())["grm"]):
        return None
    return found, [row for _, row in read_jsonl(folder / "grm.jsonl")]


def evaluate_agent(
    agent: Agent, samples: int = 0, judged: tuple[dict, list[dict]] | None = None
) -> tuple[dict, dict[str, list[dict]]]:
    """Results of one set of adapters, and the rows behind them by file name. Parts without data (a corpus of one's own)
    are None. `samples`: answers a question for pass@k and majority. `judged`: of the judge, where it is known."""
    config = agent.config
    results: dict = dict.fromkeys(("accuracy", "accuracy_greedy", "sampled", "grm", "pg"))
    rows: dict[str, list[dict]] = {}
    if config.questions and config.eval_per_hop:
        questions = asked_questions(config)
        for name, temperature in {"": 1.0, "_greedy": 0.0}.items() if config.eval_greedy else [("", 1.0)]:
            tell_part(f"{len(questions)} questions at temperature {temperature:g}")
            results[f"accuracy{name}"], answers = policy_accuracy(agent, questions, temperature)
            rows[f"policy{name}.jsonl"] = [asdict(answer) for answer in answers]
        if samples:
            tell_part(f"{samples} samples of each question")
            results["sampled"] = sampled_accuracy(policy_answers(agent, questions, samples, 1.0, "sampled"))
    if config.judgments and config.eval_judgments:
        gold = in_split(load_judgments(config.path(config.judgments)), config.eval_judgments, config.eval_split)
        tell_part(f"{len(gold)} judgments")
        results["grm"], rows["grm.jsonl"] = judged or judge_accuracy(agent, gold)
    if config.oracle and config.eval_tasks:
        tell_part(f"{config.eval_tasks} tasks and their variants")
        results["pg"], tasks = task_quality(agent, Oracle.of(config.oracle))
        rows["pg.jsonl"] = [asdict(task) for task in tasks]
    return results, rows


def tell_part(what: str) -> None:
    terminal.say(f"evaluation: {what}", "evaluating", what=what)


# --- the policy


def asked_questions(config: Config) -> list[dict]:
    """Those of the QA set that an evaluation asks: `eval_per_hop` of each number of hops."""
    return in_split(load_questions(config.path(config.questions)), config.eval_per_hop, config.eval_split, per_hop=True)


def policy_accuracy(agent: Agent, questions: list[dict], temperature: float) -> tuple[dict, list[Answer]]:
    """`metrics.accuracy.accuracy` and `metrics.accuracy.measures` of one answer to each question, and the answers."""
    answers = [own for (own,) in policy_answers(agent, questions, 1, temperature)]
    return accuracy(answers) | measures(answers), answers


def policy_answers(agent: Agent, questions: list[dict], samples: int, *seed_key: object) -> list[list[Answer]]:
    """`samples` answers to each question, at the temperature that `seed_key` begins with."""
    temperature = seed_key[0]
    asked = [row["question"] for row in questions]
    requests = roles.solve_requests(asked, samples, agent.config.seed, "evaluate", *seed_key)
    episodes = rewards.by_prompt(agent.rollout("policy", requests, temperature), samples)
    return [[answer_of(row, e) for e in own] for row, own in zip(questions, episodes, strict=True)]


def answer_of(row: dict, episode: Episode) -> Answer:
    """An episode at a question of the QA set."""
    known, said = row["metadata"], roles.answer_of(episode)
    return Answer(
        id=row["id"],
        question=row["question"],
        hops=known.get("hops"),
        relation=known.get("relation"),
        phrasing=known.get("phrasing"),
        path_kind=known.get("path_kind"),
        dataset=known.get("dataset"),
        golden_answers=row["golden_answers"],
        answer=said,
        right=rewards.exact_match(said, row["golden_answers"]),
        tool_calls=episode.n_tool_calls,
        finish_reason=episode.finish_reason.value,
        turns=[turn.text for turn in episode.turns],
        responses=[turn.response for turn in episode.turns],
        found_pages=found_pages(episode.responses, known["pages"]) if "pages" in known else None,
    )


# --- the judge


def judge_accuracy(agent: Agent, gold: list[dict]) -> tuple[dict, list[dict]]:
    """`metrics.judging.judging` of three verdicts on each gold judgment, and the gold judgments with their verdicts."""
    said = _judge(agent, [(row["question"], row["answer"]) for row in gold for _ in range(CONSISTENCY_SAMPLES)])
    samples = [said[i : i + CONSISTENCY_SAMPLES] for i in range(0, len(said), CONSISTENCY_SAMPLES)]
    return judging(gold, samples), [row | {"verdicts": own} for row, own in zip(gold, samples, strict=True)]


def _judge(agent: Agent, pairs: list[tuple[str, str | None]]) -> list[bool | None]:
    role = recipes.load(agent.config).judge_role
    return roles.judge(agent.as_role(role, 1.0), pairs, agent.config.seed, "evaluate")


# --- the task writer


def task_quality(agent: Agent, oracle: Oracle) -> tuple[dict, list[MeasuredTask]]:
    """Tasks that the PG writes for the same meta prompts at every round, by the oracle: on topics (with one policy
    attempt and one verdict each), and harder and easier variants, by width and by depth in turn, of those tasks.
    `answerable` and `right`: the mean over both kinds; `attempts`: what the policy did with the tasks on topics."""
    key, n, found = (agent.config.seed, "evaluate"), agent.config.eval_tasks, topics(agent.passages)
    order = np.random.default_rng(agent.config.seed).permutation(max(len(found), n))[:n]
    tasks = write_tasks(agent, [roles.topic_prompt(found[i % len(found)]) for i in order], *key)
    attempts = agent.rollout("policy", roles.solve_requests([task.question for task in tasks], 1, *key, "tasks"), 1.0)
    answers = [roles.answer_of(episode) for episode in attempts]
    verdicts = _judge(agent, [(task.question, answer) for task, answer in zip(tasks, answers, strict=True)])
    on_topics = [
        replace(measured(task, oracle), attempt=a, verdict=v, attempt_right=oracle.right(task.question, a))
        for task, a, v in zip(tasks, answers, verdicts, strict=True)
    ]
    asked = [VARIANTS[i % len(VARIANTS)] | {"question": task.question} for i, task in enumerate(tasks)]
    meta_prompts = [{"prompt": "task_from_question", "fields": fields} for fields in asked]
    variants = [measured(task, oracle) for task in write_tasks(agent, meta_prompts, *key, "variants")]
    parents = [replace(task, question=task.parent["question"]) for task in variants]  # `distinct` is over these
    kinds = {"topics": shares(on_topics), "variants": shares(parents)}
    result = {name: mean([kind[name] for kind in kinds.values() if kind["n"]]) for name in ("answerable", "right")}
    policy = {
        "judge_reward": mean([task.verdict is True for task in on_topics]),
        "true_accuracy": mean([task.attempt_right for task in on_topics]),
    }
    well_formed = len(tasks) / max(n, 1)
    return result | kinds | {"well_formed": well_formed, "attempts": policy}, [*on_topics, *variants]


def write_tasks(agent: Agent, meta_prompts: list[dict], *seed_key: object) -> list[Task]:
    """The well-formed tasks that the PG writes, one episode a meta prompt."""
    episodes = agent.rollout("prompt_generator", roles.task_requests(meta_prompts, 1, *seed_key), 1.0)
    return [task for task in map(roles.task_of, episodes) if task.well_formed]


def base_policy(agent: Agent, tasks: Sequence[Task], oracle: Oracle) -> dict:
    """The base model, all adapters off, at a round's first `eval_tasks` tasks: a measure that does not learn. One
    attempt each; `accuracy`: share right of those that the oracle can answer; `answerable`: share of these."""
    tasks = tasks[: agent.config.eval_tasks]
    requests = roles.solve_requests([task.question for task in tasks], 1, agent.config.seed, "evaluate", "frozen")
    answers = [roles.answer_of(episode) for episode in agent.rollout("policy", requests, 1.0, base=True)]
    asked = [(task.question, a) for task, a in zip(tasks, answers, strict=True) if oracle.answerable(task.question)]
    right = [oracle.right(question, answer) for question, answer in asked]
    return {"accuracy": mean(right), "answerable": len(asked) / len(tasks) if tasks else None, "n": len(tasks)}


def main(args: Namespace) -> None:
    if args.adapter and args.run:
        raise InputError(f"--adapter: {args.adapter}: stands in the place of a run; leave --run out")
    run, config = open_run(args)
    run_dir.check_round(config, args.round, first=0)
    if args.dry_run:
        tell_plan(plan(config, run, [(args.round, "evaluation")]))
        return
    if run:
        with run_dir.lock(run):
            results = evaluate_round(run, args.round)
    else:
        agent = Agent(config, dict.fromkeys(ROLES, args.adapter) if args.adapter else {})
        results, _ = evaluate_agent(agent, config.eval_samples)
    terminal.tell(json.dumps(results, indent=1), **results)
