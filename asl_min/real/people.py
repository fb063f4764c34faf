"""Questions by people that the articles answer: Natural Questions and WebQuestions, filtered by reading.

    python -m asl_min.real.people --out data/people
    python -m asl_min.real.people --folder data/sets --out data/people

The questions themselves do not ship. What ships is what was decided by reading them beside the articles that may hold
the answer (`questions/*.jsonl` beside this file): kept, with the articles that give it, or dropped, with a reason. The
questions come from the hub, or from files in FlashRAG's form: nq_dev.jsonl, webq_test.jsonl and webq_train.jsonl. They
are found by the hash of their text, since copies of these sets differ in their ids.

Written are test.jsonl and validation.jsonl for the key `questions`, and labels.jsonl for `labelled_questions`. Each
file's order is that of a hash of the ids, so its first questions are a sample of all.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    out = argument("--out", type=Path, required=True, help="folder")
    folder = argument("--folder", type=Path, help="folder with the three sets (from the hub)")
    start("asl_min.real.people", __doc__, out, folder)

import hashlib
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from asl_min.corpus import load_questions, read_jsonl, write_jsonl
from asl_min.rewards import normalize
from asl_min.run import terminal
from asl_min.run.errors import InputError

DECISIONS = Path(__file__).parent / "questions"
SETS = {
    "nq_dev": "nq/test.jsonl",
    "webq_test": "web_questions/test.jsonl",
    "webq_train": "web_questions/train.jsonl",
}
"""Each set and its file in FlashRAG's repository, which calls the dev set of NQ-open its test set."""
EVALUATED = ("nq_dev", "webq_test")
OWN = ("one_hop", "two_hop")
"""Files of our own questions, beside the decisions."""
LABELS = 64
"""Labelled questions, of `webq_train`. None is close to an evaluated question."""


@dataclass(frozen=True)
class Decision:
    """What reading one question decided. `sha256` is `text_hash` of the question."""

    id: str
    sha256: str
    keep: bool
    pages: tuple[str, ...] = ()
    """Titles of the articles any one of which gives a golden answer."""
    reason: str = ""
    """Why it was dropped."""


def decisions(name: str) -> list[Decision]:
    """The decisions on one of the `SETS`."""
    return [Decision(**row) for _, row in read_jsonl(DECISIONS / f"{name}.jsonl")]


def text_hash(question: str) -> str:
    """SHA-256 of the question in UTF-8, normalised as answers are (`rewards.normalize`)."""
    return hashlib.sha256(normalize(question).encode()).hexdigest()


def asked_by_hash() -> frozenset[str]:
    """`text_hash` of every question that was read, kept or not, and of our own: none of them may be trained on."""
    own = [row["question"] for name in OWN for row in load_questions(DECISIONS / f"{name}.jsonl")]
    return frozenset(d.sha256 for name in SETS for d in decisions(name)) | frozenset(map(text_hash, own))


def evaluated_titles() -> frozenset[str]:
    """The articles that a question of the evaluation rests on: none of them may be asked about in training."""
    own = [
        title
        for name in OWN
        for row in load_questions(DECISIONS / f"{name}.jsonl")
        for title in row["metadata"]["pages"]
    ]
    return frozenset(own) | {title for name in EVALUATED for d in decisions(name) if d.keep for title in d.pages}


def place(id: str) -> int:
    """SHA-256 of an id, as a number: the place of a question among others."""
    return int(hashlib.sha256(id.encode()).hexdigest(), 16)


def split(id: str) -> str:
    """The half that an evaluated question belongs to, from its id alone."""
    return "test" if place(id) % 2 else "validation"


def kept(name: str, path: str | Path) -> list[dict]:
    """The kept questions of a set, with golden answers from the file at `path`. Their metadata: `dataset`, and `pages`
    as in `Decision`. Raises `InputError` where the file has not all of them."""
    rows = load_questions(path)
    by_text = {text_hash(row["question"]): row for row in reversed(rows)}
    wanted = [decision for decision in decisions(name) if decision.keep]
    missing = [decision.id for decision in wanted if decision.sha256 not in by_text]
    if missing:
        other = next((row["question"] for row in rows if row["id"] == missing[0]), None)
        first = f"{missing[0]!r}, which has another text there: {other!r}" if other else repr(missing[0])
        raise InputError(f"{path}: lacks {len(missing)} of the {len(wanted)} kept questions of {name}, first {first}")
    return [
        by_text[decision.sha256] | {"id": decision.id, "metadata": {"dataset": name, "pages": list(decision.pages)}}
        for decision in wanted
    ]


def files(sets: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """The rows of each file written, by its name, from the kept questions of each set."""
    evaluated = in_order([row for name in EVALUATED for row in sets[name]])
    halves = {half: [row for row in evaluated if split(row["id"]) == half] for half in ("test", "validation")}
    return halves | {"labels": in_order(sets["webq_train"])[:LABELS]}


def in_order(questions: list[dict]) -> list[dict]:
    return sorted(questions, key=lambda question: place(question["id"]))


def source(name: str, folder: Path | None) -> Path:
    """The file with a whole set: in `folder`, or from the hub. Raises `InputError` where the hub does not give it."""
    if folder:
        return folder / f"{name}.jsonl"
    from asl_min.search.hub import fetch

    return fetch("RUC-NLPIR/FlashRAG_datasets", SETS[name])


def main(args: Namespace) -> None:
    if args.dry_run:
        places = [str(args.folder / f"{name}.jsonl") if args.folder else file for name, file in SETS.items()]
        text = f"{args.out}: would get test.jsonl, validation.jsonl and labels.jsonl from {', '.join(places)}"
        terminal.tell(text, out=str(args.out), sources=places)
        return
    written = files({name: kept(name, source(name, args.folder)) for name in SETS})
    for name, rows in written.items():
        write_jsonl(args.out / f"{name}.jsonl", rows)
    counts = {name: len(rows) for name, rows in written.items()}
    told = ", ".join(f"{count} questions in {name}.jsonl" for name, count in counts.items())
    terminal.tell(f"{args.out}: {told}", out=str(args.out), **counts)
