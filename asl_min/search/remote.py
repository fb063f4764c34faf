"""The client of a retrieval server that speaks Search-R1's wire format, such as `server.py`."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asl_min.corpus import Passage, parse_passage
from asl_min.run.errors import InputError
from asl_min.run.http_client import FIRST_ATTEMPTS, HttpClient, Refused

CONNECTIONS = 16


class RemoteSearch:
    """A `SearchTool` by HTTP. Answers are kept in a file, by server, index, query and top k; of a server that does not
    say which index it has, in memory. Raises `InputError` where no server answers, or where the file cannot be
    opened."""

    def __init__(self, url: str, top_k: int, cache: Path):
        self.http, self.top_k, self.lock = HttpClient(url, "search_url", CONNECTIONS), top_k, threading.Lock()
        cache.parent.mkdir(parents=True, exist_ok=True)
        self.file = cache
        with self._usable():
            self.cache = kept_in(cache)
        if not (index := self._index_name()):
            self.cache.close()
            self.cache = kept_in(":memory:")
        self.server = f"{url} {index} {top_k} "

    def _index_name(self) -> str:
        """What the server says of its index; other servers of the format have no such page."""
        try:
            return self.http.call("GET", "/health", read=lambda r: r.text, attempts=FIRST_ATTEMPTS)
        except Refused:
            return ""

    def retrieve(self, queries: list[str]) -> list[list[Passage]]:
        """For each query its passages, best first. Raises `InputError` where the server fails for good."""
        known = {query: self._known(query) for query in queries}
        missing = [query for query, found in known.items() if found is None]
        if missing:
            body = {"queries": missing, "topk": self.top_k, "return_scores": False}
            answer = self.http.call("POST", "/retrieve", body, lambda r: read_result(r.json(), len(missing)))
            for query, found in zip(missing, answer, strict=True):
                known[query] = found
                self._keep(query, found)
        return [known[query] for query in queries]

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise InputError(f"{self.file}: cannot keep the answers of the search server here: {error}") from None

    def _known(self, query: str) -> list[Passage] | None:
        with self.lock, self._usable():
            row = self.cache.execute("select passages from found where key = ?", (self.server + query,)).fetchone()
        return [Passage(*passage) for passage in json.loads(row[0])] if row else None

    def _keep(self, query: str, found: list[Passage]) -> None:
        rows = json.dumps([[p.id, p.title, p.text] for p in found])
        with self.lock, self._usable():
            self.cache.execute("insert or replace into found values (?, ?)", (self.server + query, rows))


def kept_in(place: Path | str) -> sqlite3.Connection:
    cache = sqlite3.connect(place, timeout=60, check_same_thread=False, isolation_level=None)
    cache.execute("create table if not exists found (key text primary key, passages text)")
    return cache


def read_result(answer: dict, queries: int) -> list[list[Passage]]:
    """Passages of an answer in Search-R1's form, with or without scores. Raises `ValueError` and the like on any
    other."""
    if len(answer["result"]) != queries:
        raise ValueError(f"{len(answer['result'])} results for {queries} queries")
    documents = [[item.get("document", item) for item in row] for row in answer["result"]]
    return [[parse_passage({"id": d.get("id", "")} | d, "answer") for d in row] for row in documents]
