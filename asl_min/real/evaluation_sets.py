"""Questions and gold judgments of the real run's evaluation, both halves in one form.

    python -m asl_min.real.evaluation_sets --people data/people

Ours, which ship, and with --people those that `asl-people` wrote. Into build/real go test.jsonl, validation.jsonl,
judgments_test.jsonl and judgments_validation.jsonl, and with --people the labels for Search-R1, labels.jsonl.
`metadata.dataset` names the set of a question, and `metadata.pages` what has to be read: titles, any one of each list.

A question has two judgments. The right candidate is a golden answer; the wrong one looks like the right one (another
digit), is a phrase of the page of the same kind, from a sentence without a golden answer, or the answer of another
question that begins alike. Both are put in other words as often, so that the wording tells nothing.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    people = argument("--people", type=Path, metavar="DIR", help="what asl-people wrote")
    corpus = argument("--corpus", type=Path, metavar="FILE", default=Path("build/real/articles.jsonl"))
    out = argument("--out", type=Path, metavar="DIR", default=Path("build/real"), help="folder (build/real)")
    start("asl_min.real.evaluation_sets", __doc__, people, corpus, out)

import random
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from asl_min.corpus import load_corpus, load_questions, write_jsonl
from asl_min.real.checks import names
from asl_min.real.people import DECISIONS, OWN, in_order
from asl_min.real.spans import Span, in_other_words, kind_of, near_miss, overlap, sentences, spans
from asl_min.run import terminal
from asl_min.run.errors import InputError

HALVES = ("test", "validation")
OTHERS = 20
"""Questions whose answers may be a wrong one."""
IN_OTHER_WORDS = 0.4
"""Share of candidates, right and wrong, that are put in other words."""


def own_questions(half: str) -> list[dict]:
    """Ours of a half; every page is needed."""
    return [
        row | {"metadata": {"dataset": name, "pages": [[title] for title in row["metadata"]["pages"]]}}
        for name in OWN
        for row in load_questions(DECISIONS / f"{name}.jsonl")
        if row["metadata"]["split"] == half
    ]


def peoples_questions(folder: Path, half: str) -> list[dict]:
    """Those by people of a half; any one of the pages will do."""
    return [
        row | {"metadata": row["metadata"] | {"pages": [row["metadata"]["pages"]]}}
        for row in load_questions(folder / f"{half}.jsonl")
    ]


def judgments(questions: Sequence[dict], leads: Mapping[str, str]) -> list[dict]:
    """A right and a wrong candidate for each question, drawn by its id; `metadata.kind` says where one comes from, and
    `worded` whether it was put in other words. Of a question for which no wrong one is found, the right one alone."""
    found = []
    for row in questions:
        rng, first = random.Random(row["id"]), row["golden_answers"][0]
        others = [golden for golden in row["golden_answers"][1:] if not overlap(golden, first)]
        right = {"golden": first} | ({"other_golden": rng.choice(others)} if others else {})
        candidates = [(True, *rng.choice(list(right.items())))]
        if wrong := wrong_answers(row, questions, leads, rng):
            candidates.append((False, *rng.choice(list(wrong.items()))))
        for label, kind, answer in candidates:
            worded = in_other_words(Span(answer, kind_of(answer)), rng) if rng.random() < IN_OTHER_WORDS else answer
            metadata = {"kind": kind, "worded": worded != answer}
            found.append({"question": row["question"], "answer": worded, "label": label, "metadata": metadata})
    return found


def wrong_answers(row: dict, questions: Sequence[dict], leads: Mapping[str, str], rng: random.Random) -> dict[str, str]:
    """One wrong answer of each kind that there is, by its kind."""
    golden, kind = row["golden_answers"], kind_of(row["golden_answers"][0])
    near = near_miss(Span(golden[0], kind), rng) if re.search(r"\d", golden[0]) else None
    page = [sentence for title in row["metadata"]["pages"][-1] for sentence in sentences(leads.get(title, ""))]
    page = [sentence for sentence in page if not any(overlap(sentence, answer) for answer in golden)]
    alike = [other for other in questions if asks(other["question"]) == asks(row["question"])]
    elsewhere = [other["golden_answers"][0] for other in rng.sample(alike, min(OTHERS, len(alike)))]
    sources = {
        "near_miss": [near] if near else [],
        "same_page": [span.text for sentence in page for span in spans(sentence) if span.kind == kind],
        "other_question": [answer for answer in elsewhere if kind_of(answer) == kind],
    }
    fit = {
        name: [a for a in found if not names(row["question"], a) and not any(overlap(a, g) for g in golden)]
        for name, found in sources.items()
    }
    return {name: rng.choice(found) for name, found in fit.items() if found}


def asks(question: str) -> str:
    """Its first question word; "who" for whom and whose, empty without any."""
    found = re.search(r"\b(?:who(?=m|se)?|where|when|which|what|how \w+|why)", question.lower())
    return found[0] if found else ""


def main(args: Namespace) -> None:
    files = [args.out / f"{part}{half}.jsonl" for part in ("", "judgments_") for half in HALVES]
    if args.dry_run:
        terminal.tell(f"would make {', '.join(map(str, files))}", files=list(map(str, files)))
        return
    leads, counts = {passage.title: passage.text for passage in load_corpus(args.corpus)}, {}
    for half in HALVES:
        questions = own_questions(half) + (peoples_questions(args.people, half) if args.people else [])
        needed = {title for row in questions for titles in row["metadata"]["pages"] for title in titles}
        if missing := sorted(needed - leads.keys()):
            raise InputError(f"{args.corpus}: lacks {len(missing)} pages of the questions, first {missing[0]!r}")
        judged = judgments(in_order(questions), leads)
        write_jsonl(args.out / f"{half}.jsonl", in_order(questions))
        write_jsonl(args.out / f"judgments_{half}.jsonl", judged)
        counts |= {half: len(questions), f"judgments_{half}": len(judged)}
    if args.people:
        write_jsonl(args.out / "labels.jsonl", load_questions(args.people / "labels.jsonl"))
    terminal.tell(f"{args.out}: " + ", ".join(f"{n} {name}" for name, n in counts.items()), out=str(args.out), **counts)
