"""HTTP with time limits, a cap on requests under way, bounded retries and a clear last error: what the clients of
generation and retrieval servers share. An answer is tried again when it is 429 or 5xx, late, cut off, or not of the
form that the caller reads; any other status is not.
"""

import random
import time
from collections.abc import Callable
from typing import TypeVar

import httpx2

from asl_min.run.errors import InputError

ATTEMPTS = 8
BACKOFF = 0.5  # seconds before the second attempt, doubled for each one after it, up to
LONGEST_WAIT = 30.0
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 600.0
T = TypeVar("T")


class HttpClient:
    """Calls of one server, named in errors by the config's `key`. `connections` at most are open at once; safe to use
    from threads."""

    def __init__(self, url: str, key: str, connections: int):
        self.where = f"{key} {url}"
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        try:
            self.http = httpx2.Client(
                base_url=url, limits=limits, timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS, pool=None)
            )
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
        """What `read` makes of the answer; its AttributeError, KeyError, IndexError, TypeError and ValueError mean a
        malformed answer. Raises `InputError` at once for a 4xx status, and with the last fault when all attempts are
        spent."""
        fault = ""
        for attempt in range(attempts):
            if attempt:
                time.sleep(min(BACKOFF * 2 ** (attempt - 1), LONGEST_WAIT) * random.uniform(0.5, 1.5))
            try:
                response = self._request(method, path, body)
                if response.is_success:
                    return read(response)
                fault = f"{response.status_code} {' '.join(response.text.split())[:300]}"
            except httpx2.HTTPError as error:
                fault = f"{type(error).__name__} {error}"
            except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
                fault = f"malformed answer: {type(error).__name__} {error}"
            else:
                if response.status_code < 500 and response.status_code != 429:
                    break
        raise InputError(f"{self.where}{path}: {fault} (after {attempt + 1} attempt{'s' * (attempt > 0)})")

    def _request(self, method: str, path: str, body: object) -> httpx2.Response:
        """The whole answer. It must be there after `ANSWER_SECONDS`, however steadily it drips (the client's own limit
        is for each read)."""
        begun, data = time.monotonic(), []
        with self.http.stream(method, path, json=body) as response:
            for chunk in response.iter_bytes():
                data.append(chunk)
                if time.monotonic() - begun > ANSWER_SECONDS:
                    raise httpx2.ReadTimeout(
                        f"answer not complete after {ANSWER_SECONDS:g} s", request=response.request
                    )
        return httpx2.Response(response.status_code, content=b"".join(data), request=response.request)
