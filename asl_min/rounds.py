"""The whole loop: round after round of PG -> GRM -> PM, an evaluation after each, a table on the terminal, a summary on
disk.

    python -m asl_min.rounds --config configs/tiny.yaml --run runs/tiny

The same command continues after the last finished phase. `--prepare` only makes the run folder, for those who launch
the phases by hand; `key=value` arguments override the config:

    python -m asl_min.rounds --config configs/tiny.yaml --run runs/fast rounds=2 eval_tasks=96 --dry-run
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from asl_min.run.command import CONFIG, OVERRIDES, RUN, argument, start

    prepare = argument("--prepare", action="store_true", help="only make the run folder")
    start("asl_min.rounds", __doc__, CONFIG, RUN, prepare, OVERRIDES)

import json
import time
from argparse import Namespace
from pathlib import Path

from rich.table import Table

from asl_min import train_policy, train_prompt_generator, train_reward_model
from asl_min.evaluate import evaluate_round
from asl_min.model import ROLES
from asl_min.run import run_dir, terminal
from asl_min.run.command import open_run
from asl_min.run.dry_run import plan, tell_plan
from asl_min.run.machines import copy_run
from asl_min.run.shard import accelerator_of
from asl_min.tools.report import write_report
from asl_min.tools.share import write_cards
from asl_min.tools.summary import write_summary
from asl_min.tools.table import LEGEND, table

PHASES = {"prompt_generator": train_prompt_generator, "reward_model": train_reward_model, "policy": train_policy}


@terminal.one_run()
def run_rounds(run: Path) -> dict:
    """Everything that is still to do of a prepared run. Returns the summary (of the main process; else empty)."""
    config, start, summary = run_dir.read_config(run), time.time(), {}
    accelerator = accelerator_of(config)
    if accelerator.is_main_process:
        for line in run_dir.mend(run, config.rounds):
            terminal.say(line, "damaged", what=line)
    copy_run(accelerator, run)
    phases = [(number, role) for number in range(1, config.rounds + 1) for role in ROLES]
    due = [(number, role) for number, role in phases if not run_dir.is_done(run, number, role)]
    for number in range(config.rounds + 1):
        for role in ROLES:
            if (number, role) in due:
                PHASES[role].run_phase(run, number)
                terminal.expect(due.index((number, role)) + 1, len(due), time.time() - start)
        evaluated_before = run_dir.is_done(run, number, "evaluation")
        evaluate_round(run, number)
        if accelerator.is_main_process:
            summary = write_summary(run)
            write_cards(run, number)
            if not evaluated_before or number == config.rounds:
                tell_round(summary, time.time() - start)
    if accelerator.is_main_process:
        page = write_report(run)
        terminal.say(f"report: {page}", "done", seconds=round(time.time() - start, 1), report=str(page))
    copy_run(accelerator, run)
    return summary


def tell_round(summary: dict, seconds: float) -> None:
    """The table so far; with --json, the figures of the last round."""
    last = summary["rounds"][-1]
    terminal.run_facts["accuracy"] = (last["accuracy"] or {}).get("mean")
    facts = {key: value for key, value in last.items() if isinstance(value, int | float)}
    terminal.say(terminal_table(summary), "round", **facts | terminal.run_facts, seconds_so_far=round(seconds, 1))


def terminal_table(summary: dict) -> Table:
    """The round-by-round table, in percent."""
    header, *rows = table([summary])
    shown = Table(title="Agentic Self-Learning, round by round (%)", caption=LEGEND)
    for name in header:
        shown.add_column(name, justify="right")
    for row in rows:
        shown.add_row(*row)
    return shown


def main(args: Namespace) -> None:
    run, config = open_run(args)
    if args.dry_run:
        tell_plan(plan(config, run))
    elif not args.prepare:
        with run_dir.lock(run):
            summary = run_rounds(run)
        if summary:
            facts = {"run": str(run), "rounds": len(summary["rounds"])}
            terminal.tell(json.dumps(facts), **facts)
