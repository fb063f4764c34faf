"""Documents and folders of documents into a corpus of titled passages, in the form that `corpus.py` reads.

    python -m asl_min.search.ingest my_documents notes.docx --out my_corpus.jsonl
    python -m asl_min.rounds --config configs/own_corpus.yaml --run runs/mine corpus=my_corpus.jsonl

Reads text, reStructuredText, Markdown, HTML, PDF, CSV and source code; with the packages of pip install
'asl_min[documents]' Word documents and notebooks too. A section of a document becomes passages of whole paragraphs. The
title of a passage, and with it a topic of the first round, is "document: section"; a document is named by its first
heading, or by its file if the text begins without one. Documents that cannot be read are left out and listed; with
--strict the first of them ends the command. Other kinds of files are passed over and counted; so are hidden files and
folders, which are not counted.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import above_zero, argument, start

    paths = argument("paths", type=Path, nargs="+", metavar="PATH", help="a document, or a folder of documents")
    out = argument("--out", type=Path, required=True, help="corpus file, JSONL")
    words = argument("--words", type=above_zero(int), default=100, help="of a passage at most (100)")
    strict = argument("--strict", action="store_true", help="end at the first document that cannot be read")
    start("asl_min.search.ingest", __doc__, paths, out, words, strict)

import os
import re
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from asl_min.corpus import Passage, write_jsonl
from asl_min.run import terminal
from asl_min.run.errors import InputError
from asl_min.search.documents import Section
from asl_min.search.kinds import KINDS, NAMED_BY_FILE, sections

MAX_TITLE = 100
"""Characters of a title."""
LONGEST_WORD = 100
"""Characters; a longer run without a blank is taken for data, not for a word."""
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
"""Letters of scripts without blanks between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
SENTENCE_ENDS = (".", "?", "!", "。", "？", "！")
PAIR = re.compile("[^。？！]{1,2}[。？！]?|[。？！]")
"""Two characters with the sentence end after them: what counts as a word where there are no blanks. About as many
tokens as an English word."""


@dataclass(frozen=True)
class Ingested:
    """`rows`: the corpus; `kinds`: number of documents by suffix; `guessed`: documents that are not UTF-8, with the
    encoding they were read in; `left_out`: why the other documents are not in the corpus, a line each; `passed_over`:
    number of files of other kinds, by suffix."""

    rows: list[dict]
    kinds: Counter
    guessed: dict[str, str]
    left_out: list[str]
    passed_over: Counter


def ingest(paths: Sequence[Path], words: int, strict: bool = False) -> Ingested:
    """The corpus of these documents, and of all below these folders in the order of their paths; passages of at most
    `words` words.

    Raises `InputError` if there is no such path or no text in any, and with `strict` on the first document that cannot
    be read.
    """
    found, kinds, guessed, left_out = [], Counter(), {}, []
    files, passed_over = files_of(paths)
    for file in files:
        try:
            passages, guess = passages_of(file, words)
        except InputError as error:
            if strict:
                raise
            left_out.append(str(error))
            continue
        found += passages
        kinds[file.suffix.lower()] += 1
        guessed |= {str(file): guess} if guess else {}
    if not found:
        nothing = f"{paths[0]}: holds no document of the kinds {', '.join(KINDS)}"
        raise InputError(left_out[0] if left_out else nothing)
    rows = [{"id": str(i), "contents": Passage(str(i), title, text).contents} for i, (title, text) in enumerate(found)]
    return Ingested(rows, kinds, guessed, left_out, passed_over)


def files_of(paths: Sequence[Path]) -> tuple[list[Path], Counter]:
    """The files named, and all documents below the folders, each once; and how many files there are of other kinds.
    Raises `InputError` if there is no such path."""
    found, others = [], Counter()
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        below = sorted(f for f in path.rglob("*") if f.is_file() and not is_hidden(f.relative_to(path)))
        found += [path] if path.is_file() else [f for f in below if f.suffix.lower() in KINDS]
        others.update(f.suffix.lower() or "without a suffix" for f in below if f.suffix.lower() not in KINDS)
    return list(dict.fromkeys(found)), others


def is_hidden(path: Path) -> bool:
    """Is a part of it hidden, or a folder that a program keeps for itself?"""
    return any(part.startswith(".") or part in ("__pycache__", "node_modules") for part in path.parts)


def passages_of(path: Path, words: int) -> tuple[list[tuple[str, str]], str | None]:
    """(title, text) of each passage of a document, and its encoding if that is a guess. Raises `InputError` if it
    cannot be read or holds no text."""
    found, guess = sections(path)
    stem = path.stem.encode(errors="replace").decode()  # a file's name need not be text
    found = [(heading, [p for p in body if any(map(str.isalnum, p))]) for heading, body in found]
    first = next((heading for heading, _ in found if heading), stem)
    by_file = found[0][1] or path.suffix.lower() in NAMED_BY_FILE
    named = titled(found, stem if by_file else first)
    passages = [(title, text) for title, body in named for text in packed(body, words)]
    if not passages:
        raise InputError(f"{path}: holds no text")
    return passages, guess


def titled(found: list[Section], document: str) -> Iterator[Section]:
    """The sections under the titles of their passages; `document`: its name."""
    for heading, body in found:
        title = document if heading in ("", document) else f"{document}: {heading}"
        yield title[:MAX_TITLE], body


def packed(paragraphs: list[str], words: int) -> Iterator[str]:
    """Paragraphs joined to passages of at most `words` words; a longer paragraph is cut."""
    held: list[str] = []
    for paragraph in paragraphs:
        for piece in cut(units(paragraph), words):
            if held and len(held) + len(piece) > words:
                yield "".join(held).strip()
                held = []
            held += piece
    if held:
        yield "".join(held).strip()


def cut(found: list[str], words: int) -> Iterator[list[str]]:
    """Pieces of at most `words` units, which end where a sentence does if one ends in their second half."""
    start = 0
    while len(found) - start > words:
        piece = found[start : start + words]
        ends = [i for i, unit in enumerate(piece, 1) if 2 * i > words and unit.rstrip().endswith(SENTENCE_ENDS)]
        yield piece[: ends[-1]] if ends else piece
        start += ends[-1] if ends else words
    yield found[start:]


def units(paragraph: str) -> list[str]:
    """The words, each with a blank after it. Where a script has no blanks, or a run of characters is too long for a
    word, two characters count as one."""
    found = []
    for word in paragraph.split():
        whole = len(word) <= LONGEST_WORD and not UNSPACED.search(word)
        pieces = [word] if whole else PAIR.findall(word)
        found += [*pieces[:-1], pieces[-1] + " "]
    return found


def check_out(file: Path) -> None:
    """Raises `InputError` if the file cannot be written, before the work is done."""
    if file.is_dir():
        raise InputError(f"--out: {file} is a folder; name a file")
    folder = next(parent for parent in file.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"--out: {file}: cannot write to {folder}")


def tell(found: Ingested, out: Path, dry_run: bool) -> None:
    """What was made on stdout, and on stderr what was left out or guessed."""
    for line in found.left_out:
        terminal.say(f"left out: {line}", "left_out", why=line)
    for file, encoding in found.guessed.items():
        terminal.say(f"{file}: not UTF-8, read as {encoding}", "guessed", file=file, encoding=encoding)
    titles = len({row["contents"].split("\n")[0] for row in found.rows})
    kinds, others = (
        ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())) for counts in (found.kinds, found.passed_over)
    )
    left = f"; {len(found.left_out)} left out" if found.left_out else ""
    left += f"; passed over: {others}" if others else ""
    text = f"{out}: {len(found.rows)} passages under {titles} titles, from {kinds}{left}"
    facts = {"out": str(out), "passages": len(found.rows), "titles": titles, "files": dict(found.kinds)}
    facts |= {"left_out": found.left_out, "passed_over": dict(found.passed_over)}
    terminal.tell(f"{'would write' if dry_run else 'wrote'} {text}", **facts)


def main(args: Namespace) -> None:
    check_out(args.out)
    if args.out.exists() and args.out.resolve() in [file.resolve() for file in files_of(args.paths)[0]]:
        raise InputError(f"--out: {args.out}: is one of the documents")
    found = ingest(args.paths, args.words, args.strict)
    if not args.dry_run:
        write_jsonl(args.out, found.rows)
    tell(found, args.out, args.dry_run)
