"""What a run gives to others: a data set of its tasks and judgments, and the adapters of its last round, each with a
card in the hub's form.

    python -m asl_min.tools.share runs/NAME --out my_dataset
    python -m asl_min.tools.share runs/NAME --out my_dataset --push OWNER/NAME --licence apache-2.0 --dry-run

--push uploads both to the hub: the data set and the model OWNER/NAME, made private if they are not there yet. With
--dry-run it lists what would go. It needs a token (`hf auth login`). Neither contains gold answers.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    run = argument("run", type=Path, help="run folder")
    out = argument("--out", type=Path, required=True, help="folder of the data set")
    push = argument("--push", metavar="OWNER/NAME", help="upload data set and model to the hub")
    licence = argument("--licence", metavar="ID", help="by the hub's short name; of the model, default: the base's")
    start("asl_min.tools.share", __doc__, run, out, push, licence)

from argparse import Namespace
from pathlib import Path

from asl_min.corpus import read_jsonl, write_jsonl
from asl_min.model import ROLES
from asl_min.run import durable, hub, run_dir, terminal
from asl_min.run.errors import InputError
from asl_min.tools import push
from asl_min.tools.cards import dataset_card, model_card

TABLES = ("tasks", "judgments")
FILES = (*(f"{table}.jsonl" for table in TABLES), "README.md")
"""What a data set's folder gets."""


def write_cards(run: Path, last: int | None = None) -> list[Path]:
    """Write README.md into the adapter folder of each finished phase that has none; returns the new files. `last`: the
    last round that is looked at. A later one may not be evaluated yet, and a card names what was measured.

    The checksums in `done.json` stay valid: they cover only the files that existed when the phase finished.
    """
    config = run_dir.read_config(run)
    adapters = {
        run_dir.phase_dir(run, number, role) / "adapter": (number, role)
        for number in range(1, (config.rounds if last is None else last) + 1)
        for role in ROLES
        if run_dir.is_done(run, number, role)
    }
    missing = [folder for folder in adapters if folder.is_dir() and not (folder / "README.md").exists()]
    for folder in missing:
        durable.write_text(folder / "README.md", model_card(run, *adapters[folder]))
    return [folder / "README.md" for folder in missing]


def export(run: Path, folder: Path, repo: str | None = None, licence: str | None = None) -> dict[str, int]:
    """Write tasks.jsonl, judgments.jsonl and README.md of the finished rounds into `folder`. Returns the number of rows
    by table. `repo`: of the hub, where the data set will lie.

    Raises `InputError` if no round is finished, or where `folder` cannot be written or holds a README of another kind.
    """
    run_dir.check_place(folder)
    if (folder / "README.md").exists() and not (folder / "tasks.jsonl").exists():
        raise InputError(f"--out: {folder / 'README.md'}: is not of a data set, and would be replaced")
    rounds = finished_rounds(run)
    tables = {
        "tasks": [row for n in rounds for row in tasks(run, n)],
        "judgments": [row for n in rounds for row in judgments(run, n)],
    }
    for name, rows in tables.items():
        write_jsonl(folder / f"{name}.jsonl", rows)
    counts = {name: len(rows) for name, rows in tables.items()}
    place = repo or f"OWNER/{folder.absolute().name}"
    durable.write_text(
        folder / "README.md", dataset_card(run_dir.read_config(run), len(rounds), counts, place, licence)
    )
    return counts


def finished_rounds(run: Path) -> list[int]:
    """Raises `InputError` if there is none."""
    rounds = range(1, run_dir.read_config(run).rounds + 1)
    found = [number for number in rounds if run_dir.is_done(run, number, "policy")]
    if not found:
        raise InputError(f"{run}: no round is finished")
    return found


def tasks(run: Path, round_number: int) -> list[dict]:
    """The rows of tasks.jsonl from one round: its well-formed drafts."""
    folder = run_dir.phase_dir(run, round_number, "prompt_generator")
    kept = {row["question"] for _, row in read_jsonl(folder / "tasks.jsonl")}
    drafts = [row for _, row in read_jsonl(folder / "drafts.jsonl") if row["well_formed"]]
    return [task_row(round_number, draft, draft["question"] in kept) for draft in drafts]


def task_row(round_number: int, draft: dict, kept: bool) -> dict:
    """A row of tasks.jsonl from a row of drafts.jsonl."""
    asked = draft["parent"]
    made_from = {
        "topic": asked.get("topic"),
        "parent": asked.get("question"),
        "direction": asked.get("direction"),
        "way": asked.get("way"),
    }
    result = {
        "votes": draft["votes"],
        "verdicts": draft["verdicts"],
        "reward": draft["reward"],
        "kept": kept,
    }
    return {"round": round_number, "question": draft["question"], "answer": draft["answer"]} | made_from | result


def judgments(run: Path, round_number: int) -> list[dict]:
    """The rows of judgments.jsonl from one round."""
    files = {"prompt_generator": "verification.jsonl", "policy": "outcomes.jsonl"}
    found = [
        (phase, row)
        for phase, name in files.items()
        for _, row in read_jsonl(run_dir.phase_dir(run, round_number, phase) / name)
    ]
    return [
        {"round": round_number, "phase": phase} | {key: row[key] for key in ("question", "answer", "verdict")}
        for phase, row in found
    ]


def main(args: Namespace) -> None:
    if args.push and not hub.is_id(args.push):
        raise InputError(f"--push: {args.push!r} is not of the form OWNER/NAME")
    if args.dry_run:
        rounds, files = run_dir.read_config(args.run).rounds, list(FILES)
        text = f"{args.out}: would get {', '.join(files)} from {rounds} rounds of {args.run}"
        facts = {"out": str(args.out), "run": str(args.run), "rounds": rounds, "files": files}
        if args.push:
            model = push.model_files(args.run, finished_rounds(args.run)[-1], args.push, args.licence)
            facts |= {"push": args.push, "model": push.sizes(model)}
            text += f"\nhub data set {args.push}: would get these\nhub model {args.push}: would get"
            text += "".join(f"\n  {name}  {size:,} bytes" for name, size in facts["model"].items())
        terminal.tell(text, **facts)
        return
    counts = export(args.run, args.out, args.push, args.licence)
    text = f"{args.out}: " + ", ".join(f"{n} {name}" for name, n in counts.items())
    pushed = {}
    if args.push:
        data = {name: args.out / name for name in FILES}
        model = push.model_files(args.run, finished_rounds(args.run)[-1], args.push, args.licence)
        pushed = {kind: push.push(args.push, kind, files) for kind, files in {"dataset": data, "model": model}.items()}
        text += "".join(f"\n{url}" for url in pushed.values())
    terminal.tell(text, out=str(args.out), **counts, **pushed)
