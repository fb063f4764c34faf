"""Reading a corpus and a QA set: JSONL files in the Search-R1 and the FlashRAG form.

A corpus row is `{"id": ..., "contents": "\\"Title\\"\\ntext"}`; any file of such rows can be learnt on. Topics for the
first round are its titles. A QA row is `{"id", "question", "golden_answers", "metadata"}` and is gold: reading one in a
training phase raises (see `gold.py`).
"""

import json
from dataclasses import dataclass
from pathlib import Path

from asl_min.run import gold
from asl_min.run.durable import write_text
from asl_min.run.errors import InputError

TEXTS = ("kind", "relation", "phrasing", "path_kind", "dataset")
"""Of a row's metadata."""


@dataclass(frozen=True)
class Passage:
    id: str
    title: str
    text: str

    @property
    def contents(self) -> str:
        return f'"{self.title}"\n{self.text}'


def read_jsonl(path: str | Path) -> list[tuple[int, dict]]:
    """All non-empty lines of a JSONL file as (line number, object). Raises `InputError` naming file and line."""
    path = Path(path)
    refuse_no_file(path)
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").split("\n"), start=1):
        if not line.strip():
            continue
        rows.append((number, parse_row(line, f"{path}:{number}")))
    return rows


def refuse_no_file(path: Path) -> None:
    """Raises `InputError` where there is no file, or a folder."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a file")
    if not path.is_file():
        raise InputError(f"{path}: no such file")


def parse_row(line: str, where: str) -> dict:
    """The object of one line. Raises `InputError` naming `where`."""
    try:
        row = json.loads(line)
        if "\\ud" in line.lower():  # half of a surrogate pair, which no file and no tokenizer can hold
            row = json.loads(json.dumps(row, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError) as error:  # ValueError: also a number of more digits than Python reads
        raise InputError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected an object, found {type(row).__name__}")
    return row


def load_corpus(path: str | Path) -> list[Passage]:
    """Every passage of a corpus file. Raises `InputError` on a missing or empty file or a row without `id` or
    `contents`."""
    rows = read_jsonl(path)
    if not rows:
        raise InputError(f"{path}: the corpus is empty")
    return [parse_passage(row, f"{path}:{number}") for number, row in rows]


def parse_passage(row: dict, where: str) -> Passage:
    for key in ("id", "contents"):
        if key not in row:
            raise InputError(f"{where}: key '{key}' is missing")
    contents = row["contents"]
    if not isinstance(contents, str) or not contents.strip():
        raise InputError(f"{where}: 'contents' must be a text that is not empty, found {contents!r}")
    title, _, text = contents.strip().partition("\n")
    return Passage(str(row["id"]), title.strip().strip('"'), text.strip() or title.strip())


def topics(passages: list[Passage]) -> list[str]:
    """The distinct titles, in corpus order: what the Prompt Generator starts from, with zero labels."""
    return list(dict.fromkeys(p.title for p in passages if p.title))


def load_questions(path: str | Path) -> list[dict]:
    """A QA set. Raises `InputError` on malformed rows, and `gold.GoldAccessError` in a training phase."""
    gold.refuse_in_training(f"the QA set {path}", path)
    rows = []
    for number, row in read_jsonl(path):
        answers = row.get("golden_answers")
        if not isinstance(row.get("question"), str) or not isinstance(answers, list) or not answers:
            raise InputError(
                f"{path}:{number}: needs 'question' (text) and 'golden_answers' (a list that is not empty)"
            )
        rows.append(
            {
                "id": str(row.get("id", number)),
                "question": row["question"],
                "golden_answers": [str(a) for a in answers],
                "metadata": metadata(row, f"{path}:{number}"),
            }
        )
    if not rows:
        raise InputError(f"{path}: the QA set is empty")
    refuse_some_hops(path, rows)
    return rows


def load_judgments(path: str | Path) -> list[dict]:
    """Gold judgments `{"question", "answer", "label"}`. Raises `InputError` on malformed rows, `gold.GoldAccessError`
    in a training phase."""
    gold.refuse_in_training(f"the gold judgments {path}", path)
    rows = []
    for number, row in read_jsonl(path):
        texts = isinstance(row.get("question"), str) and isinstance(row.get("answer"), str)
        if not texts or not isinstance(row.get("label"), bool):
            raise InputError(f"{path}:{number}: needs 'question' and 'answer' (texts) and 'label' (true or false)")
        rows.append(row | {"metadata": metadata(row, f"{path}:{number}")})
    if not rows:
        raise InputError(f"{path}: no judgments")
    refuse_some_hops(path, rows)
    return rows


def in_split(rows: list[dict], size: int, split: str = "test", per_hop: bool = False) -> list[dict]:
    """The first `size` rows (of each number of hops) for "test", the next for "validation". `InputError` if none."""
    groups: dict[object, list[dict]] = {}
    for row in rows:
        groups.setdefault(row["metadata"].get("hops") if per_hop else None, []).append(row)
    wanted = slice(0, size) if split == "test" else slice(size, 2 * size)
    found = [row for group in groups.values() for row in group[wanted]]
    if not found:
        raise InputError(f"eval_split: {split!r}: there are only {len(rows)} rows, too few for {size} to be left over")
    return found


def metadata(row: dict, where: str) -> dict:
    """A row's metadata, of which `hops`, `pages` and `TEXTS` are read. Raises `InputError` naming `where`."""
    found = {} if row.get("metadata") is None else row["metadata"]
    if not isinstance(found, dict):
        raise InputError(f"{where}: 'metadata' must be an object, found {found!r}")
    if type(hops := found.get("hops", 1)) is not int or hops < 1:
        raise InputError(f"{where}: 'hops' must be a whole number above 0, found {hops!r}")
    for key in TEXTS:
        if not isinstance(text := found.get(key, ""), str):
            raise InputError(f"{where}: {key!r} must be a text, found {text!r}")
    pages = found.get("pages", [])
    titles = [t for p in pages for t in (p if isinstance(p, list) else [p])] if isinstance(pages, list) else [None]
    if not all(isinstance(title, str) for title in titles):
        raise InputError(f"{where}: 'pages' must be a list of titles, or of lists of them, found {pages!r}")
    return found


def refuse_some_hops(path: str | Path, rows: list[dict]) -> None:
    """Raises `InputError` where some rows have `hops` and others have none."""
    if 0 < sum("hops" in row["metadata"] for row in rows) < len(rows):
        raise InputError(f"{path}: some rows have 'hops' in their metadata and others have none")


def write_jsonl(path: str | Path, rows: list[dict]) -> None:
    """Write rows whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
