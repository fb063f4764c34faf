"""`summary.json` of a run: what its finished rounds measured and spent, read from their files."""

import json
from dataclasses import asdict
from pathlib import Path

from asl_min.corpus import read_jsonl
from asl_min.model import ROLES
from asl_min.run import durable, run_dir

ROUND_KEYS = {
    "grm_balanced_accuracy": ("grm", "balanced_accuracy"),
    "pg_answerable": ("pg", "answerable"),
    "pg_answer_right": ("phase", "kept", "right"),
    "policy_judge_reward": ("phase", "judge_reward"),
    "policy_true_accuracy": ("phase", "true_accuracy"),
}
"""Where an entry of the summary finds its measures in results.json."""
BASE_KEYS = ROUND_KEYS | {
    "pg_answer_right": ("pg", "right"),
    "policy_judge_reward": ("pg", "attempts", "judge_reward"),
    "policy_true_accuracy": ("pg", "attempts", "true_accuracy"),
}
"""The same for round 0, which has no phases."""
BUDGET = (
    "steps",
    "optimizer_steps",
    "episodes",
    "judge_calls",
    "tokens",
    "context_tokens",
    "tool_calls",
    "seconds",
    "gold_labels",
)


def write_summary(run: Path) -> dict:
    """Write `summary.json`; returns what it holds."""
    found = summary_of(run)
    durable.write_text(run / "summary.json", json.dumps(found, indent=1))
    return found


def summary_of(run: Path) -> dict:
    """One entry in "rounds" for each evaluated round up to the first that is not; entry 0 is the base model.

    `pg_answerable` is measured on the same meta prompts in every entry. Entry 0 has no phases, so its other figures of
    tasks and policy come from its evaluation: all tasks written there, and one attempt at each task on a topic.
    """
    config = run_dir.read_config(run)
    rounds = []
    for number in range(config.rounds + 1):
        if not run_dir.is_done(run, number, "evaluation"):
            break
        rounds.append(round_summary(run, number))
    return {
        "arm": config.name,
        "recipe": config.recipe,
        "seed": config.seed,
        "started": run_dir.started(run),
        "config": asdict(config),
        "rounds": rounds,
    }


def round_summary(run: Path, number: int) -> dict:
    """One entry. Shares are 0 to 1; the budget (`BUDGET`) is that of the round's three phases, without the
    evaluation."""
    results = json.loads((run_dir.phase_dir(run, number, "evaluation") / "results.json").read_text())
    facts = [run_dir.facts(run, number, role) for role in (ROLES if number else ())]
    tasks = run_dir.phase_dir(run, number, "prompt_generator") / "tasks.jsonl"
    found = {"round": number, "accuracy": results["accuracy"], "accuracy_greedy": results["accuracy_greedy"]}
    found |= {key: dig(results, *path) for key, path in (ROUND_KEYS if number else BASE_KEYS).items()}
    found |= {"n_tasks": len(read_jsonl(tasks)) if number else 0}
    found |= {key: sum(f[key] for f in facts) for key in BUDGET} | {"pg_reward": pg_reward(run, number)}
    found["rollouts"] = found["episodes"] + found["judge_calls"]
    return found | {key: results.get(key) for key in ("sampled", "grm", "pg", "phase", "frozen", "trace")}


def pg_reward(run: Path, number: int) -> float | None:
    """Mean reward of a round's drafts without the format bonus: the mean over the steps that train, which all have as
    many drafts."""
    earned = step_rewards(run, number, "prompt_generator")
    return sum(earned) / len(earned) if earned else None


def step_rewards(run: Path, number: int, role: str) -> list[float]:
    """The reward of each step of a phase that trains; none if it has not begun."""
    file = run_dir.phase_dir(run, number, role) / "metrics.jsonl"
    return [row["reward"] for _, row in read_jsonl(file) if not row.get("fresh")] if file.is_file() else []


def dig(row: dict | None, *keys: str) -> float | None:
    """A nested value, None where it was not measured."""
    for key in keys:
        row = row.get(key) if row else None
    return row
