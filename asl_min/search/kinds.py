"""Which documents are read, and by what, told by a file's suffix."""

from pathlib import Path

from bs4.exceptions import ParserRejectedMarkup

from asl_min.run.errors import InputError
from asl_min.search import documents, more_documents
from asl_min.search.documents import Section

OF_TEXT = {
    ".txt": documents.sections_of_text,
    ".rst": documents.sections_of_text,
    ".md": documents.sections_of_markdown,
    ".html": documents.sections_of_html,
    ".htm": documents.sections_of_html,
    ".csv": more_documents.sections_of_table,
    ".tsv": more_documents.sections_of_table,
    ".ipynb": more_documents.sections_of_notebook,
    **dict.fromkeys(more_documents.CODE, more_documents.sections_of_code),
}
OF_A_FILE = {".pdf": documents.sections_of_pdf, ".docx": more_documents.sections_of_docx}
KINDS = (*OF_TEXT, *OF_A_FILE)
NAMED_BY_FILE = (".csv", ".tsv", *more_documents.CODE)
"""Kinds whose first heading is no title of the whole."""


def sections(path: Path) -> tuple[list[Section], str | None]:
    """The sections of a document, and the encoding that its text was guessed to have: None if there was nothing to
    guess. Raises `InputError` naming the file if it cannot be read, holds no text, or is of no kind in `KINDS`."""
    kind, guess = path.suffix.lower(), None
    if kind not in KINDS:
        raise InputError(f"{path}: not a document of the kinds {', '.join(KINDS)}")
    try:
        if kind in OF_A_FILE:
            return OF_A_FILE[kind](path), None
        text, guess = documents.decoded(path.read_bytes(), kind in (".html", ".htm"))
        return OF_TEXT[kind](text.replace("\r\n", "\n")), guess
    except InputError:
        raise
    except (OSError, ValueError, RecursionError, ParserRejectedMarkup) as error:
        raise InputError(f"{path}: cannot be read: {documents.one_line(str(error))}") from None
