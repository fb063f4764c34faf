"""What the oracle says of generated tasks and of a round's files. For evaluation only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asl_min import rewards
from asl_min.config import Config
from asl_min.corpus import read_jsonl
from asl_min.episode import Task, Triple
from asl_min.world.oracle import Oracle


@dataclass(frozen=True)
class MeasuredTask:
    """A generated task by the oracle, and one attempt at it if there was one. A row of evaluation/pg.jsonl."""

    question: str
    answer: str
    parent: dict[str, str]
    answerable: bool
    right: bool
    """Whether the writer's own answer is."""
    hops: int | None
    attempt: str | None = None
    verdict: bool | None = None
    """The judge's, on the attempt."""
    attempt_right: bool | None = None


def measured(task: Task, oracle: Oracle) -> MeasuredTask:
    answerable, right = oracle.answerable(task.question), oracle.right(task.question, task.answer)
    return MeasuredTask(task.question, task.answer, task.parent, answerable, right, oracle.hops(task.question))


def shares(tasks: Sequence[MeasuredTask]) -> dict:
    """Answerable share, right-answer share, mean hops of the answerable ones, distinct share."""
    hops = [task.hops for task in tasks if task.hops]
    return {
        "answerable": mean([task.answerable for task in tasks]),
        "right": mean([task.right for task in tasks]),
        "hops": mean(hops),
        "hop_shares": {f"hop{h}": hops.count(h) / len(hops) for h in sorted(set(hops))},
        "distinct": len(rewards.distinct(tasks)) / max(len(tasks), 1),
        "n": len(tasks),
    }


def round_quality(folders: dict[str, Path], config: Config) -> dict:
    """A finished round, by its phases' folders: what the policy's episodes earned and, where there is an oracle, what
    it says of these, of the tasks and of the judge's labels."""
    outcomes = [row for _, row in read_jsonl(folders["policy"] / "outcomes.jsonl")]
    found = {"judge_reward": mean([row["verdict"] is True for row in outcomes])}
    if not config.oracle:
        return found
    oracle, writer = Oracle.of(config.oracle), folders["prompt_generator"]
    drafts = [task for task in read_tasks(writer / "drafts.jsonl") if task.well_formed]
    labelled = [Triple.of_record(row) for _, row in read_jsonl(folders["reward_model"] / "labelled.jsonl")]
    return found | {
        "drafts": shares([measured(task, oracle) for task in drafts]),
        "kept": shares([measured(task, oracle) for task in read_tasks(writer / "tasks.jsonl")]),
        "labels_right": mean([t.label == oracle.right(t.question, t.answer) for t in labelled]),
        "n_labels": len(labelled),
        "true_accuracy": mean([oracle.right(row["question"], row["answer"]) for row in outcomes]),
    }


def read_tasks(file: Path) -> list[Task]:
    return [Task.of_record(row) for _, row in read_jsonl(file)]


def mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
