"""The real run's page, from the summaries of its runs and the ratings of its tasks.

    python -m reproduce.real [--results reproduce/results]
    python -m reproduce.real --choice --results runs/results

Reads DIR/real/runs/*.json, DIR/real/ratings.jsonl (`reproduce.ratings`) and DIR/real/before.json
(`reproduce.before_loop`), writes DIR/real/REAL.md. From this repository's own results the page docs/real_run.md is made
anew. `--choice` prints what the profile `real_choice` chose instead: the learning rate and the mode of ASL, by accuracy
on validation questions after one round.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    results = argument("--results", type=Path, metavar="DIR", help="default: reproduce/results")
    choice = argument("--choice", action="store_true", help="print the chosen learning rate and mode")
    start("reproduce.real", __doc__, results, choice)

import json
from argparse import Namespace
from pathlib import Path

import numpy as np

from asl_min.corpus import read_jsonl
from asl_min.run import terminal
from asl_min.run.durable import write_text
from reproduce import measures as m
from reproduce.designs import REAL, read, select
from reproduce.pages import refresh
from reproduce.ratings import RATINGS
from reproduce.real_tables import before_text, headline_text, sets_text
from reproduce.records import RESULTS, read_summaries, read_variants
from reproduce.tables import choices_table

PAGE = Path(__file__).parents[1] / "docs" / "real_run.md"


def chosen(folder: Path) -> tuple[float, str]:
    """The learning rate with the highest mean accuracy of the arms, of equals the smallest, and the arm with the
    highest accuracy at that rate. `folder`: as in `read_variants`."""
    found: dict[float, dict[str, float]] = {}
    for own in read_variants(folder):
        for summary in own.values():
            found.setdefault(summary["config"]["learning_rate"], {})[summary["arm"]] = m.final(summary)
    rate = max(sorted(found), key=lambda rate: np.mean(list(found[rate].values())))
    return rate, max(sorted(found[rate]), key=found[rate].__getitem__)


def main(args: Namespace) -> None:
    folder = args.results or RESULTS
    if args.choice:
        rate, arm = chosen(folder / "real_choice")
        text = f"{choices_table(folder / 'real_choice')}\n\nlearning rate {rate:g}, three seeds of {arm}"
        terminal.tell(text, learning_rate=rate, arm=arm)
        return
    runs, rated, written = folder / "real" / "runs", folder / RATINGS, folder / "real" / "REAL.md"
    if args.dry_run:
        terminal.tell(f"would write {written}", files=[str(written)])
        return
    selection = select(read(REAL), read_summaries(runs) if any(runs.glob("*.json")) else {})
    ratings = [row for _, row in read_jsonl(rated)] if rated.is_file() else []
    text = headline_text(selection, ratings)
    written.parent.mkdir(parents=True, exist_ok=True)
    write_text(written, f"# The real run\n\n{text}\n\n{sets_text(selection)}\n")
    if folder.resolve() == RESULTS.resolve():
        write_text(PAGE, refresh(PAGE, {"results": text}))
        if (before := folder / "real" / "before.json").is_file():
            write_text(PAGE, refresh(PAGE, {"before": before_text(json.loads(before.read_text()))}))
    terminal.tell(str(written), files=[str(written)])
