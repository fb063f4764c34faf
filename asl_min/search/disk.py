"""Search over a corpus that does not fit in memory, by an index on disk. `server.py` serves it to others.

    python -m asl_min.search.disk --corpus data/wiki18/corpus.jsonl --index data/wiki18/bm25
    python -m asl_min.search.disk --corpus data/wiki18/corpus.jsonl --index data/wiki18/e5 --encoder intfloat/e5-base-v2

An index is a folder with offsets.npy (where each passage starts in the corpus file), the memory-mapped files of bm25s
or the vectors of `dense.py`, and index.json (kind, corpus, encoder), which is written last: a folder that has it is
complete.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    corpus = argument("--corpus", type=Path, required=True, help="JSONL file")
    index = argument("--index", type=Path, required=True, help="folder to be written")
    encoder = argument("--encoder", help="an E5 model: a dense index instead of BM25")
    start("asl_min.search.disk", __doc__, corpus, index, encoder)

import json
from argparse import Namespace
from pathlib import Path

import bm25s
import numpy as np

from asl_min.corpus import Passage
from asl_min.run import terminal
from asl_min.run.durable import write_text
from asl_min.run.errors import InputError
from asl_min.search.bm25 import indexed, words
from asl_min.search.max_score import MaxScore
from asl_min.search.passages import PassageFile, progress
from asl_min.search.tool import MAX_QUERY_CHARS


class DiskSearch:
    """A `SearchTool` over an index on disk. Raises `InputError` where the folder holds none, or where its corpus has
    changed."""

    def __init__(self, folder: Path, top_k: int = 3):
        if not (folder / "index.json").is_file():
            raise InputError(f"{folder}: holds no index (no index.json); build one with python -m asl_min.search.disk")
        self.facts, self.top_k = read_facts(folder), top_k
        corpus = Path(self.facts["corpus"])
        if not corpus.is_file() or corpus.stat().st_size != self.facts["size"]:
            raise InputError(f"{folder}: its corpus {corpus} is gone or has changed; build the index again")
        try:
            self.passages = PassageFile(corpus, np.load(folder / "offsets.npy", mmap_mode="r"))
            self._index = open_index(folder, self.facts)
        except InputError:
            raise
        except (OSError, ValueError, EOFError, RuntimeError, AttributeError) as error:
            raise InputError(f"{folder}: the index is damaged ({error}); build it again") from None

    def scored(self, queries: list[str], top_k: int) -> list[list[tuple[Passage, float]]]:
        """For each query passages with their scores, best first, at most `top_k`."""
        if not queries:
            return []
        cut = [query[:MAX_QUERY_CHARS] for query in queries]
        found = self._index.search(cut, min(top_k, len(self.passages)))
        return [[(self.passages[place], score) for place, score in row] for row in found]

    def retrieve(self, queries: list[str]) -> list[list[Passage]]:
        """For each query its passages, best first, at most `top_k`."""
        return [[passage for passage, _ in row] for row in self.scored(queries, self.top_k)]


def read_facts(folder: Path) -> dict:
    """What index.json says. Raises `InputError` where it is damaged."""
    try:
        facts = json.loads((folder / "index.json").read_text())
        return {key: facts[key] for key in ("kind", "corpus", "size", "encoder", "passages")}
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{folder / 'index.json'}: damaged; build the index again") from None


def open_index(folder: Path, facts: dict) -> object:
    """A `Bm25Index`, or a `DenseIndex`."""
    if facts["kind"] == "bm25":
        return Bm25Index(folder)
    from asl_min.search.dense import DenseIndex  # BM25 does without torch and FAISS

    return DenseIndex(folder, facts["encoder"])


class Bm25Index:
    """bm25s, memory-mapped."""

    def __init__(self, folder: Path):
        self.index = bm25s.BM25.load(folder, mmap=True)
        self.max_score = MaxScore(self.index)

    def search(self, queries: list[str], top_k: int) -> list[list[tuple[int, float]]]:
        """For each query the places of passages in the corpus with their scores, best first."""
        return [self.max_score.top(self.index.get_tokens_ids(words(query)), top_k) for query in queries]


def build(corpus: Path, folder: Path, encoder: str | None) -> dict:
    """Write the index folder, dense where there is an encoder. Returns its facts. Raises `InputError` for a corpus that
    is missing, empty or malformed."""
    passages = PassageFile.scan(corpus)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)
    if encoder:
        from asl_min.search.dense import build_dense

        build_dense(folder, passages, encoder)
    else:
        build_bm25(folder, passages)
    return complete(folder, passages, "dense" if encoder else "bm25", encoder)


def build_bm25(folder: Path, passages: PassageFile) -> None:
    """Raises `InputError` where a row is malformed."""
    texts = (indexed(passages[i]) for i in progress(range(len(passages)), "reading"))
    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, stopwords=None, show_progress=False), show_progress=terminal.mode == "bar")
    index.save(folder)


def complete(folder: Path, passages: PassageFile, kind: str, encoder: str | None) -> dict:
    """Beside the files of a kind: where the passages are, and what the index is of, which is returned."""
    np.save(folder / "offsets.npy", passages.offsets)
    corpus = passages.path
    facts = {
        "kind": kind,
        "corpus": str(corpus.absolute()),
        "size": corpus.stat().st_size,
        "encoder": encoder,
        "passages": len(passages),
    }
    write_text(folder / "index.json", json.dumps(facts, indent=1))
    return facts


def main(args: Namespace) -> None:
    if args.dry_run:
        kind, size = "dense" if args.encoder else "BM25", len(PassageFile.scan(args.corpus))
        text = f"{args.index}: would get a {kind} index of {size:,} passages of {args.corpus}"
        terminal.tell(text, index=str(args.index), kind=kind, passages=size, corpus=str(args.corpus))
        return
    facts = build(args.corpus, args.index, args.encoder)
    text = f"{args.index}: {facts['kind']} index of {facts['passages']:,} passages of {args.corpus}"
    terminal.tell(text, index=str(args.index), **facts)
