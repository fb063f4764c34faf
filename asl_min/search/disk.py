"""Search over corpora that do not fit in memory: indices on disk, and the client of the server that holds them
(`retrieval_server.py`).

    python -m asl_min.search.disk --corpus data/wiki18/corpus.jsonl --index data/wiki18/bm25
    python -m asl_min.search.disk --corpus data/wiki18/corpus.jsonl --index data/wiki18/e5 --encoder intfloat/e5-base-v2

An index is a folder with index.json (kind, corpus, encoder), offsets.npy (where each passage starts in the corpus file,
from which passages are read when they are found) and either bm25s' files, which are memory-mapped, or a flat FAISS
index of normalised E5 vectors ("query: ", "passage: ", mean pooling).
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    corpus = argument("--corpus", type=Path, required=True, help="JSONL file")
    index = argument("--index", type=Path, required=True, help="folder to be written")
    encoder = argument("--encoder", help="an E5 model: a dense index instead of BM25")
    start("asl_min.search.disk", __doc__, corpus, index, encoder)

import json
import os
import sqlite3
import threading
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import bm25s
import numpy as np
import torch
from rich.progress import track
from transformers import AutoModel, AutoTokenizer

from asl_min.corpus import Passage, parse_passage, parse_row
from asl_min.run import terminal
from asl_min.run.durable import write_text
from asl_min.run.errors import InputError
from asl_min.run.http_client import HttpClient
from asl_min.search.bm25 import MAX_QUERY_CHARS, SearchTool, indexed, tokenize

CONNECTIONS = 16
ENCODER_TOKENS = 256
ENCODER_BATCH = 256
Found = list[list[tuple[int, float]]]
"""For each query the places of passages in the corpus with their scores, best first."""


def quiet() -> bool:
    return terminal.mode != "bar"


class PassageFile:
    """Passages of a JSONL corpus, read by their place in it; safe to use from threads."""

    def __init__(self, path: Path, offsets: np.ndarray):
        self.path, self.offsets, self._file = path, offsets, os.open(path, os.O_RDONLY)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, place: int) -> Passage:
        start, end = int(self.offsets[place]), int(self.offsets[place + 1])
        where = f"{self.path}: passage {place}"
        return parse_passage(parse_row(os.pread(self._file, end - start, start).decode(errors="replace"), where), where)

    @classmethod
    def scan(cls, path: Path) -> "PassageFile":
        """Reads the whole file once; blank lines are not passages. Raises `InputError` where there is none."""
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        starts, place = [], 0
        with open(path, "rb") as file:
            for line in file:
                if line.strip():
                    starts.append(place)
                place += len(line)
        if not starts:
            raise InputError(f"{path}: the corpus is empty")
        return cls(path, np.array([*starts, place], dtype=np.int64))


class Bm25Index:
    """bm25s, memory-mapped."""

    def __init__(self, folder: Path):
        self.index = bm25s.BM25.load(folder, mmap=True)

    @staticmethod
    def build(folder: Path, passages: PassageFile, _: str | None) -> None:
        index = bm25s.BM25()
        index.index(
            tokenize([indexed(passages[i]) for i in track(range(len(passages)), "reading", disable=quiet())]),
            show_progress=not quiet(),
        )
        index.save(folder)

    def search(self, queries: list[str], top_k: int) -> Found:
        known = [self.index.get_tokens_ids(tokens) for tokens in tokenize(queries)]
        return [best(self.index.get_scores_from_ids(ids), top_k) if ids else [] for ids in known]


def best(scores: np.ndarray, top_k: int) -> list[tuple[int, float]]:
    """The highest scores above 0 with their places. One maximum after the other: for a few among millions faster than a
    partition."""
    found = []
    for _ in range(top_k):
        place = int(scores.argmax())
        if scores[place] <= 0:
            break
        found.append((place, float(scores[place])))
        scores[place] = 0
    return found


class DenseIndex:
    """Flat FAISS over E5 vectors."""

    def __init__(self, folder: Path):
        import faiss

        self.index = faiss.read_index(str(folder / "flat.faiss"))
        self.encoder = Encoder(json.loads((folder / "index.json").read_text())["encoder"])

    @staticmethod
    def build(folder: Path, passages: PassageFile, encoder: str) -> None:
        import faiss

        encode, index = Encoder(encoder), None
        for start in track(range(0, len(passages), ENCODER_BATCH), "encoding", disable=quiet()):
            vectors = encode(
                "passage: ", [passages[i].contents for i in range(start, min(start + ENCODER_BATCH, len(passages)))]
            )
            index = index or faiss.IndexFlatIP(vectors.shape[1])
            index.add(vectors)
        faiss.write_index(index, str(folder / "flat.faiss"))

    def search(self, queries: list[str], top_k: int) -> Found:
        scores, places = self.index.search(self.encoder("query: ", queries), top_k)
        return [
            [(int(i), float(s)) for i, s in zip(*row, strict=True) if i >= 0]
            for row in zip(places, scores, strict=True)
        ]


class Encoder:
    """Texts to normalised float32 vectors [texts, width]: mean of the last hidden states over tokens, as E5 was
    trained."""

    def __init__(self, name: str):
        try:
            self.tokenizer, self.model = AutoTokenizer.from_pretrained(name), AutoModel.from_pretrained(name).eval()
        except (OSError, ValueError) as error:
            raise InputError(f"encoder: {name!r}: {str(error).splitlines()[0]}") from None
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.lock = threading.Lock()

    @torch.inference_mode()
    def __call__(self, prefix: str, texts: Sequence[str]) -> np.ndarray:
        with self.lock:
            tokens = self.tokenizer(
                [prefix + text for text in texts],
                padding=True,
                truncation=True,
                max_length=ENCODER_TOKENS,
                return_tensors="pt",
            )
            batch = tokens.to(self.model.device)
            hidden, mask = self.model(**batch).last_hidden_state, batch["attention_mask"][..., None]
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean.float(), dim=-1).cpu().numpy()


KINDS = {"bm25": Bm25Index, "dense": DenseIndex}


def build(corpus: Path, folder: Path, encoder: str | None) -> None:
    """Write the index folder; index.json comes last, so that a folder with one is whole."""
    passages, kind = PassageFile.scan(corpus), "dense" if encoder else "bm25"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)
    KINDS[kind].build(folder, passages, encoder)
    complete(folder, passages, kind, encoder)


def complete(folder: Path, passages: PassageFile, kind: str, encoder: str | None) -> None:
    """Beside the files of a kind: where the passages are, and what the index is of."""
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


class DiskSearch(SearchTool):
    """The search tool over an index on disk."""

    def __init__(self, folder: Path, top_k: int = 3):
        if not (folder / "index.json").is_file():
            raise InputError(f"{folder}: holds no index (no index.json); build one with python -m asl_min.search.disk")
        self.facts = json.loads((folder / "index.json").read_text())
        corpus = Path(self.facts["corpus"])
        if not corpus.is_file() or corpus.stat().st_size != self.facts["size"]:
            raise InputError(f"{folder}: its corpus {corpus} is gone or has changed; build the index again")
        self.passages = PassageFile(corpus, np.load(folder / "offsets.npy", mmap_mode="r"))
        self.top_k, self._index = top_k, KINDS[self.facts["kind"]](folder)

    def scored(self, queries: list[str], top_k: int) -> list[list[tuple[Passage, float]]]:
        """For each query passages with their scores, best first, at most `top_k`."""
        found = (
            self._index.search([query[:MAX_QUERY_CHARS] for query in queries], min(top_k, len(self.passages)))
            if queries
            else []
        )
        return [[(self.passages[place], score) for place, score in row] for row in found]

    def retrieve(self, queries: list[str]) -> list[list[Passage]]:
        return [[passage for passage, _ in row] for row in self.scored(queries, self.top_k)]


class RemoteSearch(SearchTool):
    """The search tool of a server that speaks Search-R1's wire format; what was found is kept on disk, by server,
    index, query and top k."""

    def __init__(self, url: str, top_k: int, cache: Path):
        self.http, self.top_k, self.lock = HttpClient(url, "search_url", CONNECTIONS), top_k, threading.Lock()
        cache.parent.mkdir(parents=True, exist_ok=True)
        self.cache = sqlite3.connect(cache, timeout=60, check_same_thread=False, isolation_level=None)
        self.cache.execute("create table if not exists found (key text primary key, passages text)")
        self.server = f"{url} {self._index_name()} {top_k} "

    def _index_name(self) -> str:
        """What the server says of its index; other servers of the format say nothing."""
        try:
            return json.dumps(self.http.call("GET", "/health", attempts=1))
        except InputError:
            return ""

    def retrieve(self, queries: list[str]) -> list[list[Passage]]:
        known = {query: self._known(query) for query in queries}
        missing = [query for query, found in known.items() if found is None]
        if missing:
            body = {"queries": missing, "topk": self.top_k, "return_scores": False}
            for query, found in zip(
                missing,
                self.http.call("POST", "/retrieve", body, lambda r: read_result(r.json(), len(missing))),
                strict=True,
            ):
                known[query] = found
                rows = json.dumps([[p.id, p.title, p.text] for p in found])
                with self.lock:
                    self.cache.execute("insert or replace into found values (?, ?)", (self.server + query, rows))
        return [known[query] for query in queries]

    def _known(self, query: str) -> list[Passage] | None:
        with self.lock:
            row = self.cache.execute("select passages from found where key = ?", (self.server + query,)).fetchone()
        return [Passage(*passage) for passage in json.loads(row[0])] if row else None


def read_result(answer: dict, queries: int) -> list[list[Passage]]:
    """Passages of an answer in Search-R1's form, with or without scores. Raises `ValueError` and the like on any
    other."""
    if len(answer["result"]) != queries:
        raise ValueError(f"{len(answer['result'])} results for {queries} queries")
    documents = [[item.get("document", item) for item in row] for row in answer["result"]]
    return [[parse_passage({"id": d.get("id", "")} | d, "answer") for d in row] for row in documents]


def main(args: Namespace) -> None:
    if args.dry_run:
        kind, size = "dense" if args.encoder else "BM25", len(PassageFile.scan(args.corpus))
        text = f"{args.index}: would get a {kind} index of {size:,} passages of {args.corpus}"
        terminal.tell(text, index=str(args.index), kind=kind, passages=size, corpus=str(args.corpus))
        return
    build(args.corpus, args.index, args.encoder)
