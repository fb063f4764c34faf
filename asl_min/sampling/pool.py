"""The generation servers of a phase. Requests are spread over them; one that fails for good is left out until the next
phase. The last one is waited for as long as a restart takes; then its failure is the run's.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

from accelerate import Accelerator
from accelerate.utils import gather_object

from asl_min.run.errors import InputError
from asl_min.run.http_client import ATTEMPTS, HttpClient

LAST_ATTEMPTS = 16  # about five minutes: a server that is started again reads its weights first
T = TypeVar("T")


class Pool:
    """Servers by their addresses; `connections` at most are open to each. `alive`: those that are not left out, in the
    order given. Raises `InputError` where an address is none."""

    def __init__(self, urls: list[str], connections: int):
        self.alive = [HttpClient(url, "server_url", connections) for url in urls]
        self._lock = Lock()

    @property
    def attempts(self) -> int:
        """How often a request is sent before its server counts as failed: more often where no other can do its work."""
        return ATTEMPTS if len(self.alive) > 1 else LAST_ATTEMPTS

    def order(self, rows: int) -> list[int]:
        """The order to send rows in, so that all servers have work at all times."""
        share = max(-(-rows // len(self.alive)), 1)
        return sorted(range(rows), key=lambda row: row % share)

    def ask(self, row: int, rows: int, ask: Callable[[HttpClient], T]) -> T:
        """What a server answers about one of several rows. Neighbours, which mostly begin alike, go to one server: it
        has their beginning in its cache. Raises `InputError` when the last server fails for good."""
        while True:
            alive = self.alive
            http = alive[row * len(alive) // rows]
            try:
                return ask(http)
            except InputError as error:
                self._leave_out(http, error)

    def ask_each(self, ask: Callable[[HttpClient], T]) -> dict[HttpClient, T]:
        """What each server answers, asked all at once. Raises as `ask`."""

        def one(http: HttpClient) -> tuple[HttpClient, T] | None:
            try:
                return http, ask(http)
            except InputError as error:
                self._leave_out(http, error)

        with ThreadPoolExecutor(len(self.alive)) as threads:
            return dict(filter(None, threads.map(one, self.alive)))

    def agree(self, accelerator: Accelerator) -> None:
        """Leave out what any process has left out. Every process calls it. Raises `InputError` where none is left."""
        found = gather_object([{http.where for http in self.alive}])
        self.alive = [http for http in self.alive if http.where in set.intersection(*found)]
        if not self.alive:
            raise InputError("server_url: no server answers every process")

    def _leave_out(self, http: HttpClient, error: InputError) -> None:
        """Raises the error where there is no other server."""
        with self._lock:
            if http not in self.alive:  # another thread was faster
                return
            if len(self.alive) == 1:
                raise error
            self.alive = [other for other in self.alive if other is not http]
            print(f"warning: {error}; going on with {len(self.alive)} of the generation servers", file=sys.stderr)
