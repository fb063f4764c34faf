"""Whether two versions of the code computed the same: a digest of every number of a run's rounds but the seconds.

    python -m reproduce.digest runs/b01_asl_gen_rm_seed0/summary.json reproduce/results/runs/b01_asl_gen_rm_seed0.json

Names are today's, so that summaries of earlier versions compare. Of each summary the digest is that of its short form,
as it is recorded: equal digests are equal numbers to five digits.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    start("reproduce.digest", __doc__, argument("summaries", type=Path, nargs="+", help="summary.json of runs"))

import hashlib
import json
from argparse import Namespace
from pathlib import Path

from asl_min.run import terminal
from reproduce.records import compact, read_summary


def digest(file: Path) -> str:
    """16 hex digits of a summary's rounds in their short form, without measured seconds. Raises `InputError` where the
    file is none."""
    rounds = compact(read_summary(file))["rounds"]
    timeless = [{key: value for key, value in row.items() if key != "seconds"} for row in rounds]
    return hashlib.sha256(json.dumps(timeless, sort_keys=True).encode()).hexdigest()[:16]


def main(args: Namespace) -> None:
    found = {str(file): digest(file) for file in args.summaries}
    terminal.tell("\n".join(f"{value}  {name}" for name, value in found.items()), **found)
