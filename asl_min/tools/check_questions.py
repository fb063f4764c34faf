"""Do questions fit the pages that they name? Lists what a program can see, not whether they are good.

    python -m asl_min.tools.check_questions corpus.jsonl asl_min/real/questions/two_hop.jsonl

A question's pages are the titles in `metadata.pages`, in the order of the hops, and `metadata.bridge` is the entity
that leads from the first to the second. Exit code 2 where something does not fit.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    corpus = argument("corpus", type=Path, help="the pages, in the form that corpus.py reads")
    questions = argument("questions", type=Path, nargs="+", help="QA set with `pages` in its metadata")
    start("asl_min.tools.check_questions", __doc__, corpus, questions)

import re
from argparse import Namespace
from collections.abc import Iterable, Mapping

from asl_min.corpus import Passage, load_corpus, load_questions
from asl_min.run import terminal
from asl_min.run.errors import InputError


def main(args: Namespace) -> None:
    """Print every fault and how many questions fit. Raises `InputError` where some do not."""
    if args.dry_run:
        terminal.tell(f"would check {', '.join(map(str, args.questions))}", questions=list(map(str, args.questions)))
        return
    pages = pages_of(load_corpus(args.corpus))
    found = [(f"{file}: {row['id']}", faults(row, pages)) for file in args.questions for row in load_questions(file)]
    bad = [(place, listed) for place, listed in found if listed]
    lines = [f"{place}: {fault}" for place, listed in bad for fault in listed]
    lines.append(f"{len(found) - len(bad)} of {len(found)} questions fit their pages")
    terminal.tell("\n".join(lines), questions=len(found), faults=dict(bad))
    if bad:
        raise InputError(f"{args.corpus}: {len(bad)} of {len(found)} questions do not fit these pages")


def pages_of(passages: Iterable[Passage]) -> dict[str, str]:
    """Texts by title; passages of one title are joined."""
    texts: dict[str, list[str]] = {}
    for passage in passages:
        texts.setdefault(passage.title, []).append(passage.text)
    return {title: " ".join(found) for title, found in texts.items()}


def faults(row: dict, pages: Mapping[str, str]) -> list[str]:
    """What is wrong with a question, given pages by title; `[]` where nothing is.

    Every page must exist, a golden answer must stand in the last page, and none in the question. Of two hops, the
    first page must name the bridge, the question must not, and no golden answer may stand in the first page.
    """
    titles, bridge = row["metadata"].get("pages"), row["metadata"].get("bridge")
    if not titles:
        return ["names no page (metadata.pages)"]
    found = [f"no page '{title}'" for title in titles if title not in pages]
    if found:
        return found
    answers, question = row["golden_answers"], row["question"]
    if not any(stands_in(answer, pages[titles[-1]]) for answer in answers):
        found.append("no golden answer in the last page")
    found += [f"the question contains the answer '{a}'" for a in answers if stands_in(a, question)]
    if bridge:
        name = re.sub(r"( \(.*\)|, .*)$", "", bridge)  # "Salvador, Bahia" and "Time (magazine)" by their short names
        if not stands_in(name, pages[titles[0]]):
            found.append(f"the first page does not name '{name}'")
        if stands_in(name, question):
            found.append(f"the question names the bridge '{name}'")
        found += [f"the first page contains the answer '{a}'" for a in answers if stands_in(a, pages[titles[0]])]
    return found


def stands_in(name: str, text: str) -> bool:
    """Whole words of a name, or of its plural with s, in a text; case and punctuation do not count."""
    words, all_words = (" ".join(re.findall(r"\w+", part.lower())) for part in (name, text))
    return re.search(rf"\b{re.escape(words)}s?\b", all_words) is not None
