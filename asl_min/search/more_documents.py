"""Word documents, tables, notebooks and source code into sections."""

import csv
import io
import re
from pathlib import Path

from asl_min.run.errors import InputError
from asl_min.search.documents import Section, one_line, paragraphs, sections_of_markdown

NEEDED = "needs the package {}: pip install 'asl_min[documents]'"
FENCE = "~~~~~~~~"
LONGEST_NAME = 80
"""Characters of a row's first cell that may name the row."""
DEFINITION = re.compile(
    r"^(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|pub|sealed|data|inline) )*"
    r"(?:def|class|func|function|fn|struct|enum|interface|trait|impl|type|module|object|record|protocol)\s+"
    r"([\w.]+(?:::\w+)*)",
    re.MULTILINE,
)
"""The beginning of something with a name, at the beginning of a line, in most languages."""
CODE = (
    *(".c", ".cc", ".cpp", ".cs", ".go", ".h", ".hpp", ".java", ".jl", ".js", ".kt", ".lua", ".php", ".pl", ".py"),
    *(".r", ".rb", ".rs", ".scala", ".sh", ".sql", ".swift", ".ts", ".tsx"),
)


def sections_of_docx(path: Path) -> list[Section]:
    """Sections by heading styles; a row of a table is a paragraph. Raises `InputError` where python-docx is not
    installed, and `ValueError` for a file that it cannot read."""
    try:
        import docx
        from docx.table import Table
    except ImportError:
        raise InputError(f"{path}: {NEEDED.format('python-docx')}") from None
    found: list[Section] = [("", [])]
    try:
        for block in docx.Document(str(path)).iter_inner_content():
            if isinstance(block, Table):
                found[-1][1].extend(one_line(" ".join(cell.text for cell in row.cells)) for row in block.rows)
            elif block.style and block.style.name.startswith(("Heading", "Title")):
                found.append((one_line(block.text), []))
            else:
                found[-1][1].append(one_line(block.text))
    except Exception as error:  # a broken file can end python-docx with any error
        raise ValueError(f"not a Word document that can be read ({one_line(str(error))})") from None
    return found


def sections_of_table(text: str) -> list[Section]:
    """Rows as "column: value, …". Where the first cells of all rows are different words, each row is a section of that
    name; else all rows are one. Raises `ValueError` for what is no table."""
    try:
        separator = csv.Sniffer().sniff(text[:10_000], ",;\t|")
    except csv.Error:
        separator = csv.excel
    try:
        head, *rows = [row for row in csv.reader(io.StringIO(text), separator) if any(map(str.strip, row))] or [[]]
    except csv.Error as error:
        raise ValueError(f"not a table: {error}") from None
    told = [", ".join(one_line(f"{n}: {v}") for n, v in zip(head, row, strict=False) if v.strip()) for row in rows]
    names = [one_line(row[0]) for row in rows]
    if len(set(names)) == len(names) and all(is_name(name) for name in names):
        return [("", []), *((name, [row]) for name, row in zip(names, told, strict=True))]
    return [("", told)]


def is_name(cell: str) -> bool:
    return 0 < len(cell) <= LONGEST_NAME and any(map(str.isalpha, cell))


def sections_of_notebook(text: str) -> list[Section]:
    """Those of a Jupyter notebook's Markdown, with its code between; outputs are left out. Raises `ValueError` for what
    is no notebook, or where nbformat is not installed."""
    try:
        import nbformat
    except ImportError:
        raise ValueError(NEEDED.format("nbformat")) from None
    try:
        cells = nbformat.reads(text, as_version=4).cells
    except Exception as error:  # of the JSON, of the version, of the schema
        raise ValueError(f"not a notebook ({one_line(str(error))[:200]})") from None
    told = [f"{FENCE}\n{cell.source}\n{FENCE}" if cell.cell_type == "code" else cell.source for cell in cells]
    return sections_of_markdown("\n\n".join(told))


def sections_of_code(text: str) -> list[Section]:
    """What stands before the first definition, then a section for each definition at the beginning of a line."""
    starts = [(match.start(), match[1]) for match in DEFINITION.finditer(text)]
    ends = [*(start for start, _ in starts[1:]), len(text)]
    first = text[: starts[0][0]] if starts else text
    return [("", paragraphs(first)), *((n, paragraphs(text[s:e])) for (s, n), e in zip(starts, ends, strict=True))]
