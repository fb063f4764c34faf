"""The league's rows and page, from the summaries of its runs.

    python -m reproduce.league [--results reproduce/results]
    python -m reproduce.league --rates

Reads DIR/league/runs/*.json, and of DIR/runs/*.json or the record's those that preregistered.yaml and the league share;
writes DIR/league.json, a row a system, base and seed, and DIR/league/LEAGUE.md with its figures. Rows of the record
(reproduce/results/league.json) whose runs are not in the folder stay as they are, so one system more is compared with
those that were run before. From this repository's own results the page docs/league.md is made anew. `--rates` prints
the learning rates that the profile `league_lr` chose instead.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    results = argument("--results", type=Path, metavar="DIR", help="default: reproduce/results")
    rates = argument("--rates", action="store_true", help="print the learning rates chosen on the validation bases")
    start("reproduce.league", __doc__, results, rates)

import json
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from asl_min.corpus import refuse_no_file
from asl_min.run import terminal
from asl_min.run.durable import write_text
from asl_min.run.errors import InputError
from reproduce import measures as m
from reproduce.designs import LEAGUE, League, read
from reproduce.effects import mean_over_seeds
from reproduce.league_figures import draw_all
from reproduce.league_tables import results_text
from reproduce.pages import refresh
from reproduce.phase_diagram import rounded
from reproduce.records import RESULTS, by_arm, name_of, read_bases, read_summaries, read_variants

PAGE = Path(__file__).parents[1] / "docs" / "league.md"
KEPT = ("accuracy", *m.BUDGETS, "gold_labels", "n_tasks")
"""What a row keeps of each round, under the names of a summary, so that measures of runs can be asked of rows."""


def row_of(summary: dict) -> dict:
    """A row of league.json. Percent and points; budgets are those of the whole run."""
    base, system, seed = name_of(summary)
    means = [{"accuracy": {"mean": row["accuracy"]["mean"]}} for row in summary["rounds"]]
    rounds = [{key: row[key] for key in KEPT} | mean for row, mean in zip(summary["rounds"], means, strict=True)]
    spent = {budget: round(m.spent(summary, budget)[-1]) for budget in m.BUDGETS}
    return {
        "system": system,
        "base": base,
        "seed": seed,
        "learning_rate": summary["config"]["learning_rate"],
        "gain": rounded(m.gain(summary)),
        "final": rounded(m.final(summary)),
        **spent,
        "gold_labels": max(row["gold_labels"] for row in summary["rounds"]),
        "sound_tasks": rounded(m.sound_tasks(summary)),
        "overpaid": rounded(m.overpaid(summary)),
        "rounds": rounds,
    }


def merged(record: Iterable[dict], rows: Iterable[dict], order: Iterable[str]) -> list[dict]:
    """The record's rows with these in the place of the same system, base and seed or beside them. Systems in the
    given order, others after them by name."""
    found = {(row["system"], row["base"], row["seed"]): row for row in [*record, *rows]}
    places = {system: i for i, system in enumerate(order)}
    return [found[name] for name in sorted(found, key=lambda name: (places.get(name[0], len(places)), name))]


def shared_runs(design: League, folder: Path) -> list[dict]:
    """Summaries of the runs that preregistered.yaml names too, the folder's own before the record's."""
    known, shared = {}, design.shared()
    for runs in (RESULTS / "runs", folder / "runs"):
        known |= read_summaries(runs) if any(runs.glob("*.json")) else {}
    return [known[name] for name in design.compared() if name in known and name in shared]


def read_rows(file: Path) -> list[dict]:
    """Raises `InputError` where the file is no list of rows."""
    refuse_no_file(file)
    try:
        rows = json.loads(file.read_text())
    except ValueError as error:
        raise InputError(f"{file}: not JSON: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and {"system", "rounds"} <= {*row} for row in rows):
        raise InputError(f"{file}: expected a list of rows with 'system' and 'rounds'")
    return rows


def chosen_rates(folder: Path) -> dict[str, float]:
    """By arm the learning rate with the highest final accuracy, mean over bases; of equals the smallest. `folder`: as
    in `read_variants`."""
    scores: dict[str, dict[float, float]] = {}
    for own in read_variants(folder):
        for arm, bases in by_arm(own.values()).items():
            rate = next(iter(bases.values()))[0]["config"]["learning_rate"]
            scores.setdefault(arm, {})[rate] = float(np.mean([mean_over_seeds(s, m.final) for s in bases.values()]))
    return {arm: max(sorted(found), key=found.__getitem__) for arm, found in scores.items()}


def main(args: Namespace) -> None:
    folder = args.results or RESULTS
    if args.rates:
        chosen = chosen_rates(folder / "league_lr")
        terminal.tell("\n".join(f"  {arm}: {rate:.1e}" for arm, rate in chosen.items()), **chosen)
        return
    design, record = read(LEAGUE), RESULTS / "league.json"
    summaries = [*shared_runs(design, folder), *read_summaries(folder / "league" / "runs").values()]
    rows = merged(read_rows(record) if record.is_file() else [], map(row_of, summaries), design.arms)
    bases = read_bases(folder / "bases") or read_bases(RESULTS / "bases")
    written = [folder / "league.json", folder / "league" / "LEAGUE.md"]
    if args.dry_run:
        terminal.tell("\n".join(f"would write {file}" for file in written), files=list(map(str, written)))
        return
    write_text(written[0], "[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]\n")
    text = results_text(rows, bases, design)
    write_text(written[1], f"# The league\n\n{text}\n")
    drawn = draw_all(rows, bases, folder / "league" / "figures", design.compared())
    if folder.resolve() == RESULTS.resolve():
        write_text(PAGE, refresh(PAGE, {"results": text}))
    files = [*map(str, written), *map(str, drawn)]
    terminal.tell("\n".join(files), files=files)
