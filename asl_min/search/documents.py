"""Documents into sections: text, reStructuredText, Markdown, HTML and PDF become headings with their paragraphs.

Text is read as UTF-8, or in the encoding that its byte order mark, an HTML page's own declaration or its bytes suggest.
`kinds.py` says which reader a document gets; `more_documents.py` has the others.
"""

import codecs
import logging
import re
import unicodedata
from pathlib import Path

from bs4 import BeautifulSoup, UnicodeDammit
from markdown_it import MarkdownIt
from pypdf import PdfReader

logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it cannot read is told in one line, by us
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
BLOCKS = ("p", "li", "pre", "tr", "dt", "dd", "blockquote")
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is the beginning of this one
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
MOST_CONTROLS = 0.02
"""Share of control characters above which bytes of no known encoding are no text."""

Section = tuple[str, list[str]]
"""A heading ("" before the first one) and the paragraphs under it."""


def decoded(data: bytes, is_html: bool) -> tuple[str, str | None]:
    """The text, and its encoding where that is a guess. Raises `ValueError` for bytes that are no text."""
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding), None
    if b"\0" in data:
        raise ValueError("binary data (zero bytes)")
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError:
        guess = UnicodeDammit(data, is_html=is_html)
    if guess.unicode_markup and not guess.contains_replacement_characters:
        return guess.unicode_markup, guess.original_encoding
    text = data.decode("latin-1")
    if sum(unicodedata.category(c) == "Cc" and not c.isspace() for c in text) > MOST_CONTROLS * len(text):
        raise ValueError("binary data (control characters)")
    return text, "latin-1"


def sections_of_html(text: str) -> list[Section]:
    """Sections by heading tags; a page without headings and blocks is one paragraph."""
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
    """Those of the HTML that the Markdown stands for."""
    return sections_of_html(MarkdownIt("commonmark").enable("table").render(text))


def sections_of_text(text: str) -> list[Section]:
    """Headings are lines underlined by three or more of one punctuation mark, as in reStructuredText."""
    pieces = re.split(r"^(\S.*)\n([=\-~^\"'*#+.])\2{2,}[ \t]*$", text, flags=re.MULTILINE)
    headings = zip(pieces[1::3], pieces[3::3], strict=True)
    return [("", paragraphs(pieces[0])), *((one_line(heading), paragraphs(body)) for heading, body in headings)]


def paragraphs(text: str) -> list[str]:
    """What stands between blank lines, each as one line."""
    return [one_line(p) for p in re.split(r"\n[ \t]*\n", text)]


def sections_of_pdf(path: Path) -> list[Section]:
    """One section without a heading: a PDF does not mark its headings. Raises `ValueError` for a file that pypdf cannot
    read."""
    try:
        pages = [page.extract_text() for page in PdfReader(path).pages]
    except Exception as error:  # a broken file can end pypdf with any error
        raise ValueError(f"not a PDF that can be read ({one_line(str(error)) or type(error).__name__})") from None
    return [("", paragraphs("\n\n".join(pages)))]


def one_line(text: str) -> str:
    """The text with single spaces between its words."""
    return " ".join(text.split())
