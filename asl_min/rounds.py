"""The whole loop: round after round of PG -> GRM -> PM, an evaluation after each, a table on the terminal, a summary on
disk.

    accelerate launch -m asl_min.rounds --config configs/tiny.yaml --run runs/tiny

The same command continues after the last finished phase. `--prepare` only makes the run folder, for those who launch
the phases by hand; `key=value` arguments override the config:

    python -m asl_min.rounds --config configs/tiny.yaml --run runs/fast rounds=2 eval_tasks=96 --dry-run
"""

import argparse
import json
import time
from pathlib import Path

from rich.table import Table

from asl_min import recipes, train_policy, train_prompt_generator, train_reward_model
from asl_min.chat import Chat
from asl_min.config import Config, load_config, read_yaml
from asl_min.corpus import load_corpus, load_judgments, load_questions
from asl_min.evaluate import evaluate_round
from asl_min.model import ROLES, load_tokenizer
from asl_min.phase import accelerator_of
from asl_min.run import run_dir, stopping, terminal
from asl_min.run.dry_run import plan
from asl_min.run.errors import InputError
from asl_min.run.terminal import clear_errors
from asl_min.tools.report import LEGEND, table, write_report, write_summary

PHASES = {"prompt_generator": train_prompt_generator, "reward_model": train_reward_model, "policy": train_policy}


def run_rounds(run: Path) -> dict:
    """Everything that is still to do of a prepared run. Returns the summary."""
    config, start = run_dir.read_config(run), time.time()
    accelerator = accelerator_of(config)
    main, fresh, left = accelerator.is_main_process, 0, len(ROLES) * config.rounds
    for line in run_dir.mend(run, config.rounds) if main else ():
        terminal.say(line, "damaged", what=line)
    accelerator.wait_for_everyone()
    for number in range(config.rounds + 1):
        for role in ROLES if number else ():
            if not run_dir.is_done(run, number, role):
                terminal.run_facts["seconds_left"] = (time.time() - start) / fresh * left if fresh else None
                PHASES[role].run_phase(run, number)
                fresh += 1
            left -= 1
        known = run_dir.is_done(run, number, "evaluation") and number < config.rounds
        evaluate_round(run, number)
        if main and not known:
            summary = write_summary(run)
            tell_round(summary, time.time() - start)
    if main:
        page = write_report(run)
        terminal.say(f"report: {page}", "done", seconds=round(time.time() - start, 1), report=str(page))
        return summary
    return {}


def tell_round(summary: dict, seconds: float) -> None:
    """The table so far; in a log, the figures of the last round."""
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


def check_inputs(config: Config) -> None:
    """Raises `InputError` on anything that a run could stumble over later."""
    load_corpus(config.path(config.corpus))
    Chat(load_tokenizer(config), config.prompts)
    if config.questions:
        load_questions(config.path(config.questions))
    if config.judgments:
        load_judgments(config.path(config.judgments))
    recipe = recipes.load(config)
    if labelled := recipe.labelled_questions():
        load_questions(labelled)
    if config.inject_round:
        load_judgments(config.path(config.labelled_judgments))


def prepare(run: Path, config: Config) -> None:
    """Check every input before any work starts, then make (or accept) the run folder."""
    check_inputs(config)
    accelerator = accelerator_of(config)
    if accelerator.is_main_process:
        run_dir.create(run, config)
    accelerator.wait_for_everyone()


def parse_overrides(pairs: list[str]) -> dict:
    """`key=value` arguments; values as YAML reads them."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"argument {pair!r}: expected key=value")
        found[key] = read_yaml(value, f"argument {pair!r}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="YAML file; not needed to continue a run")
    parser.add_argument("--run", type=Path, required=True, help="run folder")
    parser.add_argument("--prepare", action="store_true", help="only make the run folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="values over those of the config file")
    args = terminal.parse(parser)
    with clear_errors():
        config = (
            load_config(args.config, **parse_overrides(args.overrides))
            if args.config
            else run_dir.read_config(args.run)
        )
        if args.overrides and not args.config:
            raise InputError("key=value arguments need --config")
        if args.dry_run:
            check_inputs(config)
            print(plan(config, args.run))
            return
        if args.config:
            prepare(args.run, config)
        if not args.prepare:
            with run_dir.lock(args.run):
                summary = run_rounds(args.run)
            print(json.dumps({"run": str(args.run), "rounds": len(summary.get("rounds", []))}))
        stopping.end_processes()


if __name__ == "__main__":
    main()
