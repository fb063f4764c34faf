"""HTTP with time limits, a cap on requests under way, bounded retries and a clear last error: what the clients of
generation and retrieval servers share. A request is sent again when its answer is 429 or 5xx, late, cut off, or not of
the form that the caller reads; after any other status it is not.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import httpx2
from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_not_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from asl_min.run.errors import InputError

ATTEMPTS = 8  # about a minute
FIRST_ATTEMPTS = 2  # of the first contact: a server that is not there at the start of a run is mostly a wrong address
BACKOFF = 0.5  # seconds before the second attempt, doubled for each one after it, up to
LONGEST_WAIT = 30.0
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 600.0
T = TypeVar("T")


class Busy(Exception):
    """The server answered 429 or 5xx."""


class Refused(InputError):
    """The server answered with another `status` that is no success."""

    def __init__(self, said: str, status: int):
        super().__init__(said)
        self.status = status


PASSING = (Busy, httpx2.HTTPError, AttributeError, KeyError, IndexError, TypeError, ValueError, RecursionError)
"""Faults that another attempt may mend. From AttributeError on: what reading a malformed answer raises."""


class HttpClient:
    """Requests to one server, named in errors by the config's `key`. `connections` at most are open at once; safe to
    use from threads. Raises `InputError` where `url` is no address."""

    def __init__(self, url: str, key: str, connections: int):
        self.where = f"{key} {url}"
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        timeout = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS, pool=None)
        try:
            self.http = httpx2.Client(base_url=url, limits=limits, timeout=timeout)
            if self.http.base_url.scheme not in ("http", "https") or not self.http.base_url.host:
                raise ValueError("expected http://… or https://…")
        except (httpx2.InvalidURL, ValueError) as error:
            raise InputError(f"{key}: {url!r}: {error}") from None

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        read: Callable[[httpx2.Response], T] = httpx2.Response.json,
        attempts: int = ATTEMPTS,
    ) -> T:
        """What `read` makes of the answer. Raises as `retry`."""
        return self.retry(path, lambda: read(self.send(method, path, body)), attempts)

    def retry(self, path: str, ask: Callable[[], T], attempts: int = ATTEMPTS) -> T:
        """What `ask` returns, which calls `send` once and reads the answer.

        Raises `Refused` at once for a status that another attempt would not change, and `InputError` with the last
        fault when all attempts are spent.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(PASSING) & retry_if_not_exception_type(Refused),
            wait=wait_exponential_jitter(multiplier=BACKOFF, max=LONGEST_WAIT, jitter=BACKOFF),
            stop=stop_after_attempt(attempts),
            reraise=True,
        )
        try:
            return retrying(ask)
        except PASSING as error:
            spent = retrying.statistics["attempt_number"]
            said = f"{self.where}{path}: {described(error)} (after {spent} attempt{'s' * (spent > 1)})"
            raise (Refused(said, error.status) if isinstance(error, Refused) else InputError(said)) from None

    def send(self, method: str, path: str, body: object = None) -> httpx2.Response:
        """The answer to one request. Raises `Busy`, `Refused` or `httpx2.HTTPError`."""
        response = self._request(method, path, body)
        if response.is_success:
            return response
        said = f"{response.status_code} {' '.join(response.text.split())[:300]}"
        if response.status_code >= 500 or response.status_code == 429:
            raise Busy(said)
        raise Refused(said, response.status_code)

    def _request(self, method: str, path: str, body: object) -> httpx2.Response:
        """The whole answer. It must be there after `ANSWER_SECONDS`, however steadily it drips (the client's own limit
        is for each read)."""
        begun, data = time.monotonic(), []
        with self.http.stream(method, path, json=body) as response:
            for chunk in response.iter_bytes():
                data.append(chunk)
                if time.monotonic() - begun > ANSWER_SECONDS:
                    late = f"answer not complete after {ANSWER_SECONDS:g} s"
                    raise httpx2.ReadTimeout(late, request=response.request)
        return httpx2.Response(response.status_code, content=b"".join(data), request=response.request)


def described(error: Exception) -> str:
    """One line for the user."""
    if isinstance(error, Busy | Refused):
        return str(error)
    name = f"{type(error).__name__} {error}"
    return name if isinstance(error, httpx2.HTTPError) else f"malformed answer: {name}"
