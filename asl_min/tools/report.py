"""Summary, table and figures of one run or of several seeds, all from the runs' files; nothing here is computed anew.

python -m asl_min.tools.report runs/NAME
python -m asl_min.tools.report runs/NAME --claims reproduce/results/claims.json
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    run = argument("run", type=Path, help="run folder")
    claims = argument("--claims", type=Path, help="claims.json of `make reproduce`, shown as a table")
    start("asl_min.tools.report", __doc__, run, claims)

import json
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import matplotlib
import numpy as np

from asl_min.corpus import read_jsonl
from asl_min.model import ROLES
from asl_min.run import durable, run_dir, terminal
from asl_min.run.errors import InputError
from asl_min.tools.html.page import write_html

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

ROUND_KEYS = {
    "grm_balanced_accuracy": ("grm", "balanced_accuracy"),
    "pg_answerable": ("pg", "answerable"),
    "pg_answer_right": ("phase", "kept", "right"),
    "policy_judge_reward": ("phase", "judge_reward"),
    "policy_true_accuracy": ("phase", "true_accuracy"),
}
BASE_KEYS = ROUND_KEYS | {
    "pg_answer_right": ("pg", "right"),
    "policy_judge_reward": ("pg", "attempts", "judge_reward"),
    "policy_true_accuracy": ("pg", "attempts", "true_accuracy"),
}
COLUMNS = {
    "1 hop": ("accuracy", "hop1"),
    "2 hops": ("accuracy", "hop2"),
    "3 hops": ("accuracy", "hop3"),
    "mean": ("accuracy", "mean"),
    "greedy": ("accuracy_greedy", "mean"),
    "GRM": ("grm_balanced_accuracy",),
    "answerable": ("pg_answerable",),
    "drafts": ("phase", "drafts", "answerable"),
    "task right": ("pg_answer_right",),
    "judged": ("policy_judge_reward",),
    "true": ("policy_true_accuracy",),
}
BUDGET = ("steps", "optimizer_steps", "episodes", "tokens", "judge_calls", "tool_calls", "seconds", "gold_labels")
LONG_NAMES = {
    "GRM": "GRM balanced accuracy",
    "answerable": "tasks answerable, fixed prompts",
    "drafts": "tasks answerable, the round's own",
    "task right": "kept tasks with right answer",
    "judged": "policy: judge reward",
    "true": "policy: true accuracy",
}
LEGEND = (
    "Percent. Held-out exact match at temperature 1 by hops, their mean, and greedy; GRM: balanced accuracy on gold judgments; by the "
    "oracle: tasks answerable (for fixed meta prompts, and the round's own drafts), kept tasks with the right answer; the policy's answers judged "
    "correct and truly so. Round 0 is the base."
)


def write_summary(run: Path) -> dict:
    """`summary.json`: one entry a finished round, entry 0 the base model.

    `pg_answerable` is measured on the same meta prompts in every entry. In entry 0, where no phase has run, the other
    task and policy figures are those of the evaluation too: all its tasks, and one attempt at each on a topic.
    """
    config = run_dir.read_config(run)
    rounds = []
    for number in range(config.rounds + 1):
        if not run_dir.is_done(run, number, "evaluation"):
            break
        rounds.append(round_summary(run, number))
    summary = {
        "arm": config.name,
        "recipe": config.recipe,
        "seed": config.seed,
        "config": asdict(config),
        "rounds": rounds,
    }
    durable.write_text(run / "summary.json", json.dumps(summary, indent=1))
    return summary


def round_summary(run: Path, number: int) -> dict:
    """Shares are 0 to 1; what was spent (`BUDGET`) and the `gold_labels` used are those of the round's three phases,
    evaluation apart."""
    results = json.loads((run_dir.phase_dir(run, number, "evaluation") / "results.json").read_text())
    facts = [run_dir.facts(run, number, role) for role in (ROLES if number else ())]
    tasks = run_dir.phase_dir(run, number, "prompt_generator") / "tasks.jsonl"
    found = {"round": number, "accuracy": results["accuracy"], "accuracy_greedy": results["accuracy_greedy"]}
    found |= {key: dig(results, *path) for key, path in (ROUND_KEYS if number else BASE_KEYS).items()}
    found |= {"n_tasks": len(read_jsonl(tasks)) if number else 0}
    found |= {key: sum(f[key] for f in facts) for key in BUDGET} | {"pg_reward": pg_reward(run, number)}
    return found | {key: results.get(key) for key in ("grm", "pg", "phase", "frozen", "trace")}


def pg_reward(run: Path, number: int) -> float | None:
    """Mean reward of a round's drafts, format bonus left out; every step has as many."""
    file = run_dir.phase_dir(run, number, "prompt_generator") / "metrics.jsonl"
    earned = [row["reward"] for _, row in read_jsonl(file)] if number and file.is_file() else []
    return sum(earned) / len(earned) if earned else None


def dig(row: dict | None, *keys: str) -> float | None:
    """A nested value, None where it was not measured."""
    for key in keys:
        row = row.get(key) if row else None
    return row


def values(summaries: list[dict], column: str) -> np.ndarray:
    """One column of `COLUMNS` as [seeds, rounds], in percent; NaN where it was not measured."""
    rounds = min(len(s["rounds"]) for s in summaries)
    found = [[dig(row, *COLUMNS[column]) for row in s["rounds"][:rounds]] for s in summaries]
    return 100 * np.array(found, dtype=float)


def table(summaries: list[dict]) -> list[list[str]]:
    """Rows of cells, the header first: means over the summaries; with several, lowest and highest of the mean and the
    GRM.

    What was never measured (as for a corpus of one's own) has no column.
    """
    found = {column: values(summaries, column) for column in COLUMNS}
    found = {column: of_seeds for column, of_seeds in found.items() if not np.isnan(of_seeds).all()}
    rows = [["round", *found, "tasks", "episodes", "seconds"]]
    for number in range(min(len(s["rounds"]) for s in summaries)):
        row = [str(number)]
        for column, of_seeds in found.items():
            seeds = of_seeds[:, number]
            spread = f" ({seeds.min():.1f}-{seeds.max():.1f})" if len(seeds) > 1 and column in ("mean", "GRM") else ""
            row.append("-" if np.isnan(seeds).all() else f"{seeds.mean():.1f}{spread}")
        of_round = [s["rounds"][number] for s in summaries]
        rows.append(
            [*row, *(f"{np.mean([r[key] for r in of_round]):.0f}" for key in ("n_tasks", "episodes", "seconds"))]
        )
    return rows


def markdown(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]])


def draw_rounds(summaries: list[dict]) -> Figure:
    """Left: held-out accuracy by hops. Right: judge and tasks, against the oracle. Bands: from the lowest to the
    highest seed; with one seed, the 95% bootstrap interval of the mean."""
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    sides = {
        "Held-out accuracy, temperature 1": list(COLUMNS)[:4],
        "Judge and tasks, against the oracle": list(COLUMNS)[5:],
    }
    for axis, (title, columns) in zip(axes, sides.items(), strict=True):
        for column in columns:
            found = values(summaries, column)
            rounds = np.arange(found.shape[1])
            if np.isnan(found).all():
                continue
            (line,) = axis.plot(
                rounds,
                found.mean(0),
                "o-",
                label=LONG_NAMES.get(column, column),
                linewidth=3 if column == "mean" else 1.5,
            )
            low, high = _band(summaries, column, found)
            axis.fill_between(rounds, low, high, color=line.get_color(), alpha=0.15)
        axis.set(title=title, xlabel="round (0 = base model)", ylabel="%", ylim=(0, 100), xticks=rounds)
        if axis.lines:
            axis.legend(fontsize=8, loc="lower right")
    return figure


def _band(summaries: list[dict], column: str, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(summaries) == 1 and column == "mean":
        low, high = zip(*(row["accuracy"]["interval"] for row in summaries[0]["rounds"]), strict=True)
        return 100 * np.array(low), 100 * np.array(high)
    return found.min(0), found.max(0)


def draw_steps(run: Path, path: Path) -> None:
    """Reward per step of every phase, the rounds end to end."""
    titles = {
        "prompt_generator": "PG: entropy + verify (nats)",
        "reward_model": "GRM: agreement with labels",
        "policy": "Policy: judged correct",
    }
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
    for axis, role in zip(axes, ROLES, strict=True):
        start = 0
        for number in range(1, run_dir.read_config(run).rounds + 1):
            file = run_dir.phase_dir(run, number, role) / "metrics.jsonl"
            rewards = [row["reward"] for _, row in read_jsonl(file)] if file.is_file() else []
            axis.plot(range(start, start + len(rewards)), rewards)
            start += len(rewards)
        axis.set(title=titles[role], xlabel="step (a colour a round)", ylabel="reward")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def write_report(run: Path, claims: Path | None = None) -> Path:
    """`report/`: two figures (PNG), REPORT.md with the table of rounds, and report.html with all that and the episodes;
    `claims`: a JSON list."""
    found = load_claims(claims) if claims else []
    summary = write_summary(run)
    if not summary["rounds"]:
        raise InputError(f"{run}: no round is evaluated yet")
    folder = run / "report"
    folder.mkdir(exist_ok=True)
    figure = draw_rounds([summary])
    figure.savefig(folder / "rounds.png", dpi=120)
    pyplot.close(figure)
    draw_steps(run, folder / "steps.png")
    title = f"# {summary['arm']}, seed {summary['seed']}"
    text = "\n\n".join([title, LEGEND, markdown(table([summary])), "![rounds](rounds.png)", "![steps](steps.png)"])
    durable.write_text(folder / "REPORT.md", text + "\n")
    series = {LONG_NAMES.get(column, column): values([summary], column)[0].tolist() for column in COLUMNS}
    return write_html(run, summary, table([summary]), series, LEGEND, found)


def load_claims(file: Path) -> list[dict]:
    """Rows of a claims.json. Raises `InputError` where it is none."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not a claims file: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{file}: expected a list of claims")
    return rows


def main(args: Namespace) -> None:
    if args.dry_run:
        rounds = run_dir.read_config(args.run).rounds
        text = f"{args.run}: would write summary.json and report/ from the finished rounds of {rounds}"
        terminal.tell(text, run=str(args.run), rounds=rounds, files=["summary.json", "report/"])
    else:
        print(write_report(args.run, args.claims))
