"""A load generator that takes little of the cores it shares with the server: HTTP/1.1 over kept connections, in one
asyncio loop, without an HTTP library."""

import asyncio
import re
import statistics
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def load(url: str, bodies: list[bytes], clients: int) -> dict:
    """Posts every body once, `clients` at a time: requests a second, and latency in milliseconds. Raises
    `ConnectionError`, in an `ExceptionGroup`, where an answer is not 200."""
    seconds: list[float] = []
    start = time.perf_counter()
    asyncio.run(_all(url, iter(bodies), clients, seconds))
    whole = time.perf_counter() - start
    return {
        "queries_per_second": round(len(bodies) / whole, 1),
        "p50_ms": round(1000 * statistics.median(seconds), 1),
        "p99_ms": round(1000 * statistics.quantiles(seconds, n=100)[98], 1),
        "requests": len(bodies),
    }


async def _all(url: str, bodies: Iterator[bytes], clients: int, seconds: list[float]) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(_client(url, bodies, seconds))


async def _client(url: str, bodies: Iterator[bytes], seconds: list[float]) -> None:
    """One connection, one request after the other."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n".encode()
    for body in bodies:
        start = time.perf_counter()
        writer.write(b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body))
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in answer[:13]:
            raise ConnectionError(f"{url}: {answer.splitlines()[0].decode()}")
        await reader.readexactly(int(LENGTH.search(answer)[1]))
        seconds.append(time.perf_counter() - start)
    writer.close()
