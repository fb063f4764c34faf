"""Exploratory: does the loop give more than greedy decoding of the untrained base? All accuracies of the record are at
temperature 1, where a model that only becomes surer of what it would say most often gains too.

    python -m reproduce.greedy --runs runs --results reproduce/results

Evaluates greedily the last policy of every finished run in the folder that the results have, and each base once, on the
questions that the run was evaluated on; `greedy.json` gets a row each, and those that it has are not measured again.
`reproduce.claims` then shows them. Nothing is trained.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import above_zero, argument, start

    start(
        "reproduce.greedy",
        __doc__,
        argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="run folders (default: runs)"),
        argument("--results", type=Path, required=True, metavar="DIR", help="folder of the results"),
        argument("--jobs", type=above_zero(int), default=2, help="runs at a time (2)"),
    )

import json
import multiprocessing
from argparse import Namespace
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from asl_min.config import Config
from asl_min.evaluate import asked_questions, policy_accuracy
from asl_min.model import ROLES
from asl_min.phase import Agent
from asl_min.run import durable, run_dir, terminal
from asl_min.run.errors import InputError
from reproduce.jobs import other_weights
from reproduce.records import KEPT, Name, read_summaries, run_name
from reproduce.tables import BASE, GREEDY, greedy_rows


def measured(config: Config, adapter: Path | None) -> dict[str, float]:
    """Greedy accuracy of an adapter, of the base alone for None, on the questions of the config."""
    agent = Agent(config, dict.fromkeys(ROLES, adapter) if adapter else {})
    found, _ = policy_accuracy(agent, asked_questions(config), 0.0)
    return {key: value for key, value in found.items() if key in KEPT["accuracy"] and isinstance(value, float)}


def due(runs: Path, names: set[Name], known: list[dict]) -> dict[Name, tuple[Config, Path | None]]:
    """What is still to be measured of the runs with these names: config and adapter by base, arm and seed."""
    found, there = {}, {(row["base"], row["arm"], row["seed"]) for row in known}
    for base, arm, seed in sorted(names):
        run = runs / run_name(base, arm, seed)
        if not (run / "config.yaml").is_file():
            continue
        config = run_dir.read_config(run)
        if run_dir.is_done(run, config.rounds, "policy"):
            found[base, arm, seed] = config, run_dir.require(run, config.rounds, "policy") / "adapter"
            found[base, BASE, 0] = config, None
    return {name: of for name, of in found.items() if name not in there}


def main(args: Namespace) -> None:
    summaries = read_summaries(args.results / "runs")
    same = {name for name, s in summaries.items() if not other_weights(s, name[0])}
    rows = greedy_rows(args.results)
    wanted = due(args.runs, same, rows)
    if args.dry_run:
        terminal.tell(f"would measure {len(wanted)} models", models=len(wanted))
        return
    if not wanted and not rows:
        raise InputError(f"{args.runs}: no finished run of those in {args.results / 'runs'}")
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        begun = {pool.submit(measured, *of): name for name, of in wanted.items()}
        for done in as_completed(begun):
            base, arm, seed = begun[done]
            rows.append({"base": base, "arm": arm, "seed": seed, "accuracy": done.result()})
            rows.sort(key=lambda row: (row["base"], row["arm"], row["seed"]))
            durable.write_text(args.results / GREEDY, json.dumps(rows, indent=1) + "\n")
            terminal.say(f"{base} {arm}: {rows[-1]['accuracy']['mean']:.3f}", "greedy", base=base, arm=arm)
    terminal.tell(f"{len(rows)} models", models=len(rows))
