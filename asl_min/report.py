"""Summary, figures and the short report of a run, all from its files; nothing here is computed anew.

python -m asl_min.report runs/NAME
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from asl_min import run_dir
from asl_min.corpus import read_jsonl
from asl_min.model import ROLES
from asl_min.phase import clear_errors

ROUND_KEYS = {
    "grm_balanced_accuracy": ("grm", "balanced_accuracy"),
    "pg_answerable": ("phase", "drafts", "answerable"),
    "pg_answer_right": ("phase", "kept", "right"),
    "policy_judge_reward": ("phase", "judge_reward"),
    "policy_true_accuracy": ("phase", "true_accuracy"),
}
BASE_KEYS = ROUND_KEYS | {
    "pg_answerable": ("pg", "answerable"),
    "pg_answer_right": ("pg", "right"),
    "policy_judge_reward": ("pg", "judge_reward"),
    "policy_true_accuracy": ("pg", "true_accuracy"),
}


def write_summary(run: Path) -> dict:
    """`summary.json`: one entry a finished round, entry 0 the base model.

    In entry 0, where no phase has run, the task and policy figures are those of the evaluation: tasks on topics, one attempt each.
    """
    config = run_dir.read_config(run)
    rounds = []
    for number in range(config.rounds + 1):
        if not run_dir.is_done(run, number, "evaluation"):
            break
        rounds.append(round_summary(run, number))
    summary = {"recipe": config.recipe, "seed": config.seed, "config": asdict(config), "rounds": rounds}
    run_dir.write_text(run / "summary.json", json.dumps(summary, indent=1))
    return summary


def round_summary(run: Path, number: int) -> dict:
    """Shares are 0 to 1; `episodes`, sampled `tokens` and `seconds` are those of the round's three phases, evaluation apart."""
    results = json.loads((run_dir.phase_dir(run, number, "evaluation") / "results.json").read_text())
    facts = [json.loads((run_dir.phase_dir(run, number, role) / run_dir.DONE).read_text()) for role in (ROLES if number else ())]
    tasks = run_dir.phase_dir(run, number, "prompt_generator") / "tasks.jsonl"
    found = {"round": number, "accuracy": results["accuracy"], "accuracy_greedy": results["accuracy_greedy"]}
    found |= {key: _dig(results, path) for key, path in (ROUND_KEYS if number else BASE_KEYS).items()}
    found |= {"n_tasks": len(read_jsonl(tasks)) if number else 0}
    found |= {key: sum(f[key] for f in facts) for key in ("episodes", "tokens", "seconds", "steps")}
    return found | {"grm": results["grm"], "pg": results["pg"], "phase": results["phase"]}


def _dig(values: dict | None, path: tuple[str, ...]) -> float | None:
    for key in path:
        values = values.get(key) if values else None
    return values


def write_report(run: Path) -> Path:
    """`report/`: two figures (PNG) and REPORT.md with the table of rounds."""
    summary = write_summary(run)
    folder = run / "report"
    folder.mkdir(exist_ok=True)
    draw_rounds(summary["rounds"], folder / "rounds.png")
    draw_steps(run, folder / "steps.png")
    run_dir.write_text(folder / "REPORT.md", report_text(summary))
    return folder / "REPORT.md"


def draw_rounds(rounds: list[dict], path: Path) -> None:
    """Left: held-out accuracy by hops over rounds. Right: is the judge still worth trusting?"""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    numbers = [r["round"] for r in rounds]
    if all(r["accuracy"] for r in rounds):
        keys = [key for key in rounds[0]["accuracy"] if key.startswith("hop")]
        for key in keys:
            left.plot(numbers, [100 * r["accuracy"][key] for r in rounds], "o-", alpha=0.55, label=f"{key[3:]} hop{'s' if key != 'hop1' else ''}")
        low, high = zip(*(r["accuracy"]["interval"] for r in rounds), strict=True)
        left.plot(numbers, [100 * r["accuracy"]["mean"] for r in rounds], "ko-", linewidth=2.5, label="mean")
        left.fill_between(numbers, [100 * v for v in low], [100 * v for v in high], color="k", alpha=0.12, label="95% interval")
        left.legend()
    left.set(title="Held-out accuracy, temperature 1", xlabel="round (0 = base model)", ylabel="exact match (%)", xticks=numbers, ylim=(0, 100))
    names = {
        "grm_balanced_accuracy": "GRM balanced accuracy",
        "pg_answerable": "tasks answerable",
        "pg_answer_right": "kept tasks with right answer",
        "policy_judge_reward": "policy: judge reward",
        "policy_true_accuracy": "policy: true accuracy",
    }
    for key, name in names.items():
        points = [(r["round"], 100 * r[key]) for r in rounds if r[key] is not None]
        if points:
            right.plot(*zip(*points, strict=True), "o--" if key.startswith("policy") else "o-", label=name)
    right.set(title="Judge and tasks, against the oracle", xlabel="round (0 = base model)", ylabel="share (%)", xticks=numbers, ylim=(0, 100))
    if right.lines:
        right.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def draw_steps(run: Path, path: Path) -> None:
    """Reward per step of every phase, the rounds end to end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    titles = {"prompt_generator": "PG: entropy + verify (nats)", "reward_model": "GRM: agreement with labels", "policy": "Policy: judged correct"}
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
    for axis, role in zip(axes, ROLES, strict=True):
        start = 0
        for number in range(1, 1000):
            file = run_dir.phase_dir(run, number, role) / "metrics.jsonl"
            if not file.is_file():
                break
            rewards = [row["reward"] for _, row in read_jsonl(file)]
            axis.plot(range(start, start + len(rewards)), rewards, label=f"round {number}")
            start += len(rewards)
        axis.set(title=titles[role], xlabel="step", ylabel="reward")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def report_text(summary: dict) -> str:
    rows = []
    for r in summary["rounds"]:
        accuracy = r["accuracy"] or {}
        cells = [accuracy.get(k) for k in ("hop1", "hop2", "hop3", "mean")] + [(r["accuracy_greedy"] or {}).get("mean")]
        cells += [r[k] for k in ROUND_KEYS]
        rows.append(
            f"| {r['round']} | "
            + " | ".join("-" if c is None else f"{100 * c:.1f}" for c in cells)
            + f" | {r['n_tasks']} | {r['episodes']} | {r['seconds']:.0f} |"
        )
    head = (
        "| round | 1 hop | 2 hops | 3 hops | mean | greedy mean | GRM | answerable | task right | judge reward | true accuracy | tasks | episodes | seconds |"
    )
    return "\n".join(
        [
            f"# {summary['recipe']}, seed {summary['seed']}",
            "",
            "Held-out accuracy (exact match, %) at temperature 1 by hops; GRM balanced accuracy on gold judgments; tasks and policy by the oracle.",
            "",
            head,
            "|" + "---|" * (head.count("|") - 1),
            *rows,
            "",
            "![rounds](rounds.png)",
            "",
            "![steps](steps.png)",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    with clear_errors():
        print(write_report(parser.parse_args().run))


if __name__ == "__main__":
    main()
