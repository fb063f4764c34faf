"""A folder of documents into a corpus: text, reStructuredText, Markdown, HTML and PDF into passages with titles, as
`corpus.py` reads them.

    python -m asl_min.search.ingest my_documents --out my_corpus.jsonl
    python -m asl_min.rounds --config configs/own_corpus.yaml --run runs/mine corpus=my_corpus.jsonl

A document is cut at its headings, a section into passages of whole paragraphs. A passage's title, and with it a topic
of the first round, is "document: section"; the document's name is its first heading, or the file's name where the text
begins without one.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    folder = argument("folder", type=Path)
    out = argument("--out", type=Path, required=True, help="corpus file, JSONL")
    words = argument("--words", type=int, default=100, help="of a passage at most (100)")
    start("asl_min.search.ingest", __doc__, folder, out, words)

import itertools
import re
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from asl_min.corpus import Passage, write_jsonl
from asl_min.run import terminal
from asl_min.run.errors import InputError

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
BLOCKS = ("p", "li", "pre", "tr", "dt", "dd", "blockquote")
MAX_TITLE = 100

Section = tuple[str, list[str]]
"""A heading ("" before the first one) and the paragraphs under it."""


def sections_of_html(text: str) -> list[Section]:
    soup = BeautifulSoup(text, "html.parser")
    for tag in soup(["script", "style", "nav", "template"]):
        tag.decompose()
    found: list[Section] = [("", [])]
    for tag in soup.find_all((*HEADINGS, *BLOCKS)):
        if tag.name in HEADINGS:
            found.append((one_line(tag.get_text()), []))
        elif not tag.find_parent(BLOCKS):
            found[-1][1].append(one_line(tag.get_text(" ")))
    return found if len(found) > 1 or found[0][1] else [("", [one_line(soup.get_text(" "))])]


def sections_of_markdown(text: str) -> list[Section]:
    return sections_of_html(MarkdownIt("commonmark").enable("table").render(text))


def sections_of_text(text: str) -> list[Section]:
    """Headings are lines underlined by three or more of one punctuation mark, as in reStructuredText."""
    found: list[Section] = [("", [])]
    pieces = re.split(r"^(\S.*)\n([=\-~^\"'*#+.])\2{2,}[ \t]*$", text, flags=re.MULTILINE)
    found[0][1].extend(paragraphs(pieces[0]))
    for heading, _, body in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        found.append((one_line(heading), paragraphs(body)))
    return found


def paragraphs(text: str) -> list[str]:
    return [one_line(p) for p in re.split(r"\n[ \t]*\n", text)]


def sections_of_pdf(path: Path) -> list[Section]:
    """One section without a heading: a PDF does not say which lines are headings."""
    try:
        pages = [page.extract_text() for page in PdfReader(path).pages]
    except (PyPdfError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a PDF that can be read: {one_line(str(error))}") from None
    return [("", paragraphs("\n\n".join(pages)))]


READERS = {
    ".txt": sections_of_text,
    ".rst": sections_of_text,
    ".md": sections_of_markdown,
    ".html": sections_of_html,
    ".htm": sections_of_html,
}


def sections(path: Path) -> list[Section]:
    """Raises `InputError` on a PDF that cannot be read; bytes that are no UTF-8 become replacement characters."""
    if path.suffix.lower() == ".pdf":
        return sections_of_pdf(path)
    return READERS[path.suffix.lower()](path.read_text(encoding="utf-8-sig", errors="replace").replace("\r\n", "\n"))


def passages(path: Path, words: int) -> Iterator[tuple[str, str]]:
    """(title, text) of each passage of a document."""
    found = [(heading, [p for p in body if any(map(str.isalnum, p))]) for heading, body in sections(path)]
    document = path.stem if found[0][1] else next((heading for heading, _ in found if heading), path.stem)
    for heading, body in found:
        title = document if heading in ("", document) else f"{document}: {heading}"
        for text in packed(body, words):
            yield title[:MAX_TITLE], text


def packed(body: list[str], words: int) -> Iterator[str]:
    """Paragraphs joined up to `words` words; a longer one is cut, at the end of a sentence where there is one."""
    pieces = [piece for paragraph in body for piece in cut(paragraph, words)]
    while pieces:
        sizes = itertools.accumulate(len(piece.split()) for piece in pieces)
        n = max(1, sum(size <= words for size in sizes))
        yield " ".join(pieces[:n])
        pieces = pieces[n:]


def cut(paragraph: str, words: int) -> Iterator[str]:
    """Pieces of at most `words` words."""
    rest = paragraph.split()
    while len(rest) > words:
        ends = [i for i, word in enumerate(rest[:words], start=1) if word.endswith((".", "?", "!")) and 2 * i > words]
        n = ends[-1] if ends else words
        yield " ".join(rest[:n])
        rest = rest[n:]
    yield " ".join(rest)


def one_line(text: str) -> str:
    return " ".join(text.split())


def ingest(folder: Path, words: int) -> tuple[list[dict], Counter]:
    """Corpus rows of all documents below a folder, in the order of their paths, and how many files there are of each
    kind.

    Raises `InputError` where there is no text.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.suffix.lower() in (*READERS, ".pdf"))
    found = [passage for file in files for passage in passages(file, words)]
    if not found:
        raise InputError(f"{folder}: holds no text in a file of {', '.join((*READERS, '.pdf'))}")
    rows = [{"id": str(i), "contents": Passage(str(i), title, text).contents} for i, (title, text) in enumerate(found)]
    return rows, Counter(f.suffix.lower() for f in files)


def main(args: Namespace) -> None:
    if args.words < 1:
        raise InputError(f"--words: {args.words}, must be above 0")
    rows, kinds = ingest(args.folder, args.words)
    titles = len({row["contents"].split("\n")[0] for row in rows})
    files = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    said = f"{args.out}: {len(rows)} passages under {titles} titles, from {files}"
    if args.dry_run:
        terminal.tell(f"would write {said}", out=str(args.out), passages=len(rows), titles=titles, files=dict(kinds))
        return
    write_jsonl(args.out, rows)
    print(f"wrote {said}")
