"""Requests that wait are searched together: a server pays for the change to the searching thread once for all of them,
and a dense index encodes their queries as one batch."""

import asyncio
from collections import deque
from dataclasses import dataclass

from asl_min.corpus import Passage
from asl_min.search.disk import DiskSearch

MAX_QUERIES = 1024
"""Of one request, and of those that are searched together."""

Found = list[list[tuple[Passage, float]]]


@dataclass(frozen=True)
class Request:
    queries: list[str]
    top_k: int
    answer: asyncio.Future


class SearchTogether:
    """`DiskSearch.scored` for the tasks of one event loop, which it does not hold up."""

    def __init__(self, search: DiskSearch):
        self.search, self._waiting, self._worker = search, deque(), None

    async def scored(self, queries: list[str], top_k: int) -> Found:
        """As `DiskSearch.scored`, by a thread. Raises what that raises, for all requests searched together."""
        request = Request(queries, top_k, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await request.answer

    async def _work(self) -> None:
        """Until none waits."""
        while self._waiting:
            batch = take(self._waiting)
            queries = [query for request in batch for query in request.queries]
            try:
                found = iter(await asyncio.to_thread(self.search.scored, queries, max(r.top_k for r in batch)))
                for request in batch:
                    rows = [next(found)[: request.top_k] for _ in request.queries]
                    if not request.answer.done():
                        request.answer.set_result(rows)
            except Exception as error:
                for request in batch:
                    if not request.answer.done():
                        request.answer.set_exception(error)


def take(waiting: deque[Request]) -> list[Request]:
    """Removes the first request, and those after it up to MAX_QUERIES queries in all."""
    batch = [waiting.popleft()]
    left = MAX_QUERIES - len(batch[0].queries)
    while waiting and len(waiting[0].queries) <= left:
        left -= len(waiting[0].queries)
        batch.append(waiting.popleft())
    return batch
