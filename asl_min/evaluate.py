"""Evaluation: held-out accuracy by hop, the GRM on gold judgments, the PG's tasks by the oracle. The only code that
sees gold.

    accelerate launch -m asl_min.evaluate --run runs/NAME --round 2
    accelerate launch -m asl_min.evaluate --config configs/tiny.yaml --adapter some/peft/folder

Round 0 is the base model. Accuracy is exact match with any golden answer (substring match, SubEM, beside it), at temperature 1 and
greedy, with 95% bootstrap intervals over questions. Nothing measured here is read by training; the gold guard would
refuse it.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import CONFIG, OVERRIDES, argument, start

    run = argument("--run", type=Path, metavar="DIR", help="run folder")
    number = argument("--round", type=int, metavar="N", default=0, help="round of the run, 0 for the base")
    adapter = argument("--adapter", type=Path, help="without --run: a peft adapter folder, used for all three roles")
    start("asl_min.evaluate", __doc__, CONFIG, run, number, adapter, OVERRIDES)

import json
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import evaluate
import numpy as np

from asl_min import roles
from asl_min.config import Config
from asl_min.corpus import load_judgments, load_questions, read_jsonl, topics, write_jsonl
from asl_min.model import ROLES
from asl_min.phase import Agent
from asl_min.rewards import distinct_tasks, exact_match
from asl_min.run import durable, run_dir
from asl_min.run.command import open_run
from asl_min.run.dry_run import plan, tell_plan
from asl_min.run.errors import InputError
from asl_min.tools.audit import trace
from asl_min.world.oracle import Oracle

METRIC = Path(__file__).parent / "metrics" / "qa_match"
CONSISTENCY_SAMPLES = 3
VARIANTS = [{"direction": direction, "way": way} for way in ("width", "depth") for direction in ("harder", "easier")]


def evaluate_agent(agent: Agent) -> tuple[dict, dict[str, list[dict]]]:
    """Results of one set of adapters, and the rows behind them by file name. Parts without data (a corpus of one's own)
    are None."""
    config = agent.config
    results: dict = dict.fromkeys(("accuracy", "accuracy_greedy", "grm", "pg"))
    rows: dict[str, list[dict]] = {}
    if config.questions and config.eval_per_hop:
        questions = chosen_per_hop(
            load_questions(config.path(config.questions)), config.eval_per_hop, config.eval_split
        )
        results["accuracy"], rows["policy.jsonl"] = policy_accuracy(agent, questions, 1.0)
        results["accuracy_greedy"], rows["policy_greedy.jsonl"] = policy_accuracy(agent, questions, 0.0)
    if config.judgments and config.eval_judgments:
        gold = load_judgments(config.path(config.judgments))[part(config.eval_judgments, config.eval_split)]
        results["grm"], rows["grm.jsonl"] = judge_accuracy(agent, gold)
    if config.oracle and config.eval_tasks:
        results["pg"], rows["pg.jsonl"] = task_quality(agent, Oracle.of(config.oracle))
    return results, rows


def part(size: int, split: str) -> slice:
    """The rows of a split: the first `size` for "test", the next ones for "validation"."""
    return slice(0, size) if split == "test" else slice(size, 2 * size)


def chosen_per_hop(questions: list[dict], per_hop: int, split: str = "test") -> list[dict]:
    """The split's `per_hop` questions of each number of hops (of all questions, where hops are not given)."""
    by_hop: dict[object, list[dict]] = {}
    for row in questions:
        by_hop.setdefault(row["metadata"].get("hops"), []).append(row)
    found = [row for group in by_hop.values() for row in group[part(per_hop, split)]]
    if not found:
        raise InputError(f"eval_split: {split!r}: there are only {len(questions)} questions")
    return found


def policy_accuracy(agent: Agent, questions: list[dict], temperature: float) -> tuple[dict, list[dict]]:
    """Exact match `hop1..`, their `mean`, `interval` of the mean, `sub_em`, and shares of finish reasons."""
    episodes = agent.rollout(
        "policy",
        roles.solve_requests([q["question"] for q in questions], 1, agent.config.seed, "evaluate", temperature),
        temperature,
    )
    rows = [
        {
            "id": q["id"],
            "question": q["question"],
            "hops": q["metadata"].get("hops"),
            "golden_answers": q["golden_answers"],
            "answer": roles.answer_of(e),
        }
        | {
            "right": exact_match(roles.answer_of(e), q["golden_answers"]),
            "tool_calls": e.n_tool_calls,
            "finish_reason": e.finish_reason.value,
            "turns": [t.text for t in e.turns],
        }
        for q, e in zip(questions, episodes, strict=True)
    ]
    groups = (
        [[r for r in rows if r["hops"] == hops] for hops in sorted({r["hops"] or 0 for r in rows})]
        if rows[0]["hops"]
        else [rows]
    )
    scores = [_match(group) for group in groups]
    result = {
        f"hop{group[0]['hops']}": score["exact_match"]
        for group, score in zip(groups, scores, strict=True)
        if group[0]["hops"]
    }
    result["mean"] = float(np.mean([score["exact_match"] for score in scores]))
    result["interval"] = bootstrap([[r["right"] for r in group] for group in groups])
    result["sub_em"] = float(np.mean([score["sub_em"] for score in scores]))
    result["answered"] = sum(r["finish_reason"] == "answer" for r in rows) / len(rows)
    return result, rows


def _match(rows: list[dict]) -> dict[str, float]:
    metric = evaluate.load(str(METRIC))
    return metric.compute(predictions=[r["answer"] or "" for r in rows], references=[r["golden_answers"] for r in rows])


def bootstrap(groups: Sequence[Sequence[bool]], draws: int = 1000) -> list[float]:
    """95% percentile interval of the mean of group means, questions redrawn within each group."""
    rng = np.random.default_rng(0)
    means = [rng.choice(np.asarray(group, float), (draws, len(group))).mean(1) for group in groups]
    return [float(q) for q in np.quantile(np.mean(means, 0), (0.025, 0.975))]


def judge_accuracy(agent: Agent, gold: list[dict]) -> tuple[dict, list[dict]]:
    """The GRM on gold judgments: accuracy a hop, balanced accuracy (mean over hops of the mean over labels), F1 of
    "correct", consistency (how often two of three samples agree), and accuracy a kind of candidate."""
    pairs = [(row["question"], row["answer"]) for row in gold for _ in range(CONSISTENCY_SAMPLES)]
    said = _judge(agent, pairs)
    samples = [said[i : i + CONSISTENCY_SAMPLES] for i in range(0, len(said), CONSISTENCY_SAMPLES)]
    rows = [row | {"verdicts": verdicts} for row, verdicts in zip(gold, samples, strict=True)]
    flat = [
        (row["label"], v is True, v is not None and v == row["label"], row) for row in rows for v in row["verdicts"]
    ]
    hops = sorted({row["metadata"].get("hops", 0) for row in rows})
    by_hop = {f"hop{h}": _balanced([f for f in flat if f[3]["metadata"].get("hops", 0) == h]) for h in hops}
    positives, hits = sum(v for _, v, _, _ in flat), sum(label and v for label, v, _, _ in flat)
    total = sum(label for label, _, _, _ in flat)
    agree = [a == b for row in rows for i, a in enumerate(row["verdicts"]) for b in row["verdicts"][i + 1 :]]
    kinds = sorted({row["metadata"].get("kind", "") for row in rows})
    return {
        **by_hop,
        "balanced_accuracy": float(np.mean(list(by_hop.values()))),
        "f1": 2 * hits / max(positives + total, 1),
        "consistency": float(np.mean(agree)),
        "unreadable": sum(v is None for v in said) / len(said),
        "by_kind": {
            kind: float(np.mean([ok for _, _, ok, row in flat if row["metadata"].get("kind", "") == kind]))
            for kind in kinds
        },
    }, rows


def _judge(agent: Agent, pairs: list[tuple[str, str]]) -> list[bool | None]:
    return roles.judge(agent.as_role("reward_model", 1.0), pairs, agent.config.seed, "evaluate")


def _balanced(flat: list[tuple]) -> float:
    """Mean of the accuracies on right and on wrong candidates; an unreadable verdict is a wrong one."""
    sides = [[ok for label, _, ok, _ in flat if label == side] for side in (True, False)]
    return float(np.mean([np.mean(side) for side in sides if side]))


def task_quality(agent: Agent, oracle: Oracle) -> tuple[dict, list[dict]]:
    """Tasks that the PG writes for the same meta prompts at every round, by the oracle: on topics (with one policy
    attempt and one verdict each), and harder and easier variants, by width and by depth in turn, of those tasks.
    `answerable` and `right`: the mean over both kinds; `attempts`: what the policy did with the tasks on topics."""
    key, n = (agent.config.seed, "evaluate"), agent.config.eval_tasks
    found = topics(agent.passages)
    asked = [
        roles.topic_prompt(found[i % len(found)])
        for i in np.random.default_rng(agent.config.seed).permutation(max(len(found), n))[:n]
    ]
    formed = write_tasks(agent, asked, *key)
    answers = [
        roles.answer_of(e)
        for e in agent.rollout("policy", roles.solve_requests([t["question"] for t in formed], 1, *key, "tasks"), 1.0)
    ]
    verdicts = _judge(agent, [(t["question"], a) for t, a in zip(formed, answers, strict=True)])
    rows = [
        describe(t, oracle) | {"attempt": a, "verdict": v} for t, a, v in zip(formed, answers, verdicts, strict=True)
    ]
    rows = [row | {"attempt_right": oracle.right(row["question"], row["attempt"])} for row in rows]
    variants = [VARIANTS[i % len(VARIANTS)] | {"question": t["question"]} for i, t in enumerate(formed)]
    variants = [{"prompt": "task_from_question", "fields": fields} for fields in variants]
    varied = [describe(t, oracle) | t["parent"] for t in write_tasks(agent, variants, *key, "variants")]
    kinds = {"topics": shares_of_tasks(rows), "variants": shares_of_tasks(varied)}
    result = {share: _mean([kind[share] for kind in kinds.values() if kind["n"]]) for share in ("answerable", "right")}
    attempts = {
        "judge_reward": _mean([r["verdict"] is True for r in rows]),
        "true_accuracy": _mean([r["attempt_right"] for r in rows]),
    }
    return result | kinds | {"well_formed": len(formed) / max(n, 1), "attempts": attempts}, [*rows, *varied]


def frozen_policy(agent: Agent, tasks: list[dict], oracle: Oracle) -> dict:
    """The base model, all adapters off, at a round's tasks: how hard they are by a measure that does not learn. One
    attempt each; `accuracy`: share right among the tasks that the oracle can answer; `answerable`: share of these."""
    tasks = tasks[: agent.config.eval_tasks]
    requests = roles.solve_requests([task["question"] for task in tasks], 1, agent.config.seed, "evaluate", "frozen")
    answers = [roles.answer_of(e) for e in agent.rollout("policy", requests, 1.0, base=True)]
    right = [
        oracle.right(t["question"], a) for t, a in zip(tasks, answers, strict=True) if oracle.answerable(t["question"])
    ]
    return {"accuracy": _mean(right), "answerable": len(right) / len(tasks) if tasks else None, "n": len(tasks)}


def write_tasks(agent: Agent, meta_prompts: list[dict], *seed_key: object) -> list[dict]:
    """The well-formed tasks that the PG writes, one episode a meta prompt."""
    episodes = agent.rollout("prompt_generator", roles.task_requests(meta_prompts, 1, *seed_key), 1.0)
    return [task for task in map(roles.task_of, episodes) if task]


def describe(task: dict, oracle: Oracle) -> dict:
    question, answer = task["question"], task["answer"]
    return {
        "question": question,
        "answer": answer,
        "answerable": oracle.answerable(question),
        "right": oracle.right(question, answer),
        "hops": oracle.hops(question),
    }


def shares_of_tasks(rows: list[dict]) -> dict:
    """Answerable share, right-answer share, mean hops of the answerable ones, distinct share."""
    hops = [r["hops"] for r in rows if r["hops"]]
    return {
        "answerable": _mean([r["answerable"] for r in rows]),
        "right": _mean([r["right"] for r in rows]),
        "hops": _mean(hops),
        "hop_shares": {f"hop{h}": hops.count(h) / len(hops) for h in sorted(set(hops))},
        "distinct": len(distinct_tasks(rows)) / max(len(rows), 1),
        "n": len(rows),
    }


def phase_quality(folders: dict[str, Path], config: Config) -> dict:
    """A finished round, by its phases' folders: what the policy's episodes earned and, where there is an oracle, what
    it says of these and of the tasks."""
    outcomes = [r for _, r in read_jsonl(folders["policy"] / "outcomes.jsonl")]
    found = {"judge_reward": _mean([r["verdict"] is True for r in outcomes])}
    if not config.oracle:
        return found
    oracle = Oracle.of(config.oracle)
    drafts = [r for _, r in read_jsonl(folders["prompt_generator"] / "drafts.jsonl") if r["well_formed"]]
    kept = [r for _, r in read_jsonl(folders["prompt_generator"] / "tasks.jsonl")]
    labelled = [r for _, r in read_jsonl(folders["reward_model"] / "labelled.jsonl")]
    return found | {
        "drafts": shares_of_tasks([describe(r, oracle) for r in drafts]),
        "kept": shares_of_tasks([describe(r, oracle) for r in kept]),
        "labels_right": _mean([r["label"] == oracle.right(r["question"], r["answer"]) for r in labelled]),
        "n_labels": len(labelled),
        "true_accuracy": _mean([oracle.right(r["question"], r["answer"]) for r in outcomes]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def evaluate_round(run: Path, round_number: int) -> dict:
    """Evaluate the adapters after a round (0: the base) and write `round_NN/evaluation/`; a finished evaluation is
    kept."""
    if run_dir.is_done(run, round_number, "evaluation"):
        return json.loads((run_dir.phase_dir(run, round_number, "evaluation") / "results.json").read_text())
    config, start = run_dir.read_config(run), time.time()
    folders = {role: run_dir.require(run, round_number, role) for role in ROLES} if round_number else {}
    agent = Agent(config, run_dir.latest_adapters(run, config, round_number, None))
    results, rows = evaluate_agent(agent)
    results |= {"phase": None, "frozen": None, "trace": None}
    if folders:
        results["phase"] = phase_quality(folders, config)
        results["trace"] = trace(run, round_number, folders, config, agent.tool)
    if folders and config.oracle:
        tasks = [row for _, row in read_jsonl(folders["prompt_generator"] / "tasks.jsonl")]
        results["frozen"] = frozen_policy(agent, tasks, Oracle.of(config.oracle))
    if agent.accelerator.is_main_process:
        folder = run_dir.begin(run, round_number, "evaluation")
        for name, table in rows.items():
            write_jsonl(folder / name, table)
        durable.write_text(folder / "results.json", json.dumps(results, indent=1))
        run_dir.finish(folder, {"seconds": round(time.time() - start, 1)})
    agent.accelerator.wait_for_everyone()
    return results


def main(args: Namespace) -> None:
    if args.adapter and args.run:
        raise InputError(f"--adapter: {args.adapter}: stands in the place of a run; leave --run out")
    run, config = open_run(args)
    if args.dry_run:
        tell_plan(plan(config, run, [(args.round, "evaluation")]))
        return
    if run:
        results = evaluate_round(run, args.round)
    else:
        results, _ = evaluate_agent(Agent(config, dict.fromkeys(ROLES, args.adapter) if args.adapter else {}))
    print(json.dumps(results, indent=1))
