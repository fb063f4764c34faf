"""Do the runs keep to what was fixed before the first of them: `preregistered.yaml`, or the league's or the real run's?

    python -m reproduce.preregistration [--file reproduce/preregistered.yaml] [--results reproduce/results]

Checked of every run that the file names: it started after the commit that last touched the file (without git history:
its summary holds the file's digest), its config is what the file demands, and its base had the weights that the base of
that name has here and that its other runs and its measures had. Runs that are missing are listed, and those that the
file does not name, which are exploratory; neither is an error. Exit code 1 where a check fails.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    file = argument("--file", type=Path, metavar="FILE", help="default: reproduce/preregistered.yaml")
    results = argument("--results", type=Path, metavar="DIR", help="default: reproduce/results")
    start("reproduce.preregistration", __doc__, file, results)

import subprocess
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

from asl_min.run import terminal
from reproduce.designs import FILE, digest, listed, read, select
from reproduce.jobs import differences, other_weights
from reproduce.records import RESULTS, Name, read_bases, read_summaries, run_name


def problems(file: Path, named: dict[Name, dict], bases: dict[str, dict]) -> list[str]:
    """What is wrong with the runs that the file names, a line each. `bases`: the measures of each base before the
    loop."""
    design, committed = read(file), last_commit(file)
    found = [f"{file} has changes that are not committed"] if is_changed(file) else []
    for name, summary in named.items():
        found += [f"{run_name(*name)}: {reason}" for reason in (age(file, committed, summary),) if reason]
        for key, (old, new) in differences(summary["config"], design.config(name)).items():
            found.append(f"{run_name(*name)}: {key} = {old!r}, the file demands {new!r}")
        found += [f"{run_name(*name)}: {reason}" for reason in (other_weights(summary, name[0]),) if reason]
    own = {base: measures for base, measures in bases.items() if base in design.bases.names}
    found += [f"measures of {base}: {why}" for base, measures in own.items() if (why := other_weights(measures, base))]
    return found + mixed_bases(named, own)


def mixed_bases(named: dict[Name, dict], bases: dict[str, dict]) -> list[str]:
    """A line for each base whose runs, or measures, were made on different weights. Arms are compared on one base, so
    that these would be compared on two."""
    weights: dict[str, set[str]] = {}
    for base, made in [*((base, summary) for (base, *_), summary in named.items()), *bases.items()]:
        weights.setdefault(base, set()).update({made.get("base_weights")} - {None})
    return [
        f"{base}: its runs and measures are of {len(found)} different weights"
        for base, found in weights.items()
        if len(found) > 1
    ]


def age(file: Path, committed: datetime | None, summary: dict) -> str | None:
    """Why a run may be older than the file; None where it is not."""
    if committed is None:
        return None if summary.get("preregistered") == digest(file) else "does not hold the digest of the file"
    try:
        started = datetime.fromisoformat(summary.get("started"))
        return f"started {started}, the file was committed {committed}" if started < committed else None
    except (TypeError, ValueError):  # none, or without a time zone; not a time
        return "does not say when it started"


def last_commit(file: Path) -> datetime | None:
    """When the commit was made that last touched the file; None without (whole) git history of it."""
    if git(file, "rev-parse", "--is-shallow-repository") != "false":
        return None
    seconds = git(file, "log", "-1", "--format=%ct", "--", file.name)
    return datetime.fromtimestamp(int(seconds), UTC) if seconds else None


def is_changed(file: Path) -> bool:
    """Does the file differ from the last commit of a repository that knows it?"""
    return last_commit(file) is not None and bool(git(file, "status", "--porcelain", "--", file.name))


def git(file: Path, *words: str) -> str:
    """What git says in the file's folder; nothing where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *words], cwd=file.parent, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def main(args: Namespace) -> None:
    file, results = args.file or FILE, args.results or RESULTS
    folder = results / "runs"
    design = read(file)
    selection = select(design, read_summaries(folder) if any(folder.glob("*.json")) else {})
    wrong = problems(file, selection.named, read_bases(results / "bases"))
    counts = {name: len(getattr(selection, name)) for name in ("named", "missing", "exploratory")}
    lines = [f"runs: {counts['named']} of {len(design.names())} named ones, {counts['exploratory']} exploratory"]
    for kind in ("missing", "exploratory"):
        if names := getattr(selection, kind):
            lines.append(f"{kind}: {listed(names)}")
    lines += [f"WRONG: {line}" for line in wrong]
    terminal.tell("\n".join(lines), **counts, wrong=wrong)
    if wrong:
        raise SystemExit(1)
