"""What makes the search server fast changes no answer: MaxScore, the query's own tokenizer, requests searched
together."""

import asyncio
import json
import random
from collections import deque

import bm25s
import numpy as np
import pytest
from helpers import running
from hypothesis import given
from hypothesis import strategies as st

from asl_min.corpus import write_jsonl
from asl_min.search import max_score, together
from asl_min.search.bm25 import tokenize, words
from asl_min.search.disk import DiskSearch, build
from asl_min.search.max_score import MaxScore, best, look_up
from asl_min.search.server import app_of
from asl_min.search.together import Request, SearchTogether, take
from reproduce.bench import retrieval
from reproduce.bench.http_load import load

VOCABULARY = [f"w{i}" for i in range(300)]


def index_of(texts: list[list[str]]) -> bm25s.BM25:
    index = bm25s.BM25()
    index.index(texts, show_progress=False)
    return index


def zipf_texts(passages: int, seed: int) -> list[list[str]]:
    """Word i about 1 / (i + 1) as often as word 0, which is in nearly all passages."""
    rng, weights = random.Random(seed), [1 / (i + 1) for i in range(len(VOCABULARY))]
    return [rng.choices(VOCABULARY, weights, k=rng.randint(1, 60)) for _ in range(passages)]


@pytest.fixture(scope="module")
def index() -> bm25s.BM25:
    return index_of(zipf_texts(5000, 0))


def top_of_all(index: bm25s.BM25, ids: list[int], top_k: int) -> list[tuple[int, float]]:
    """By the scores of all passages, the first of equal ones first."""
    scores = index.get_scores_from_ids(ids)
    order = np.lexsort((np.arange(len(scores)), -scores))[:top_k]
    return [(int(i), float(scores[i])) for i in order if scores[i] > 0]


# --- MaxScore


def test_same_places_and_scores_as_by_scoring_every_passage(index):
    """To the bit, for queries of rare words, of common ones, of both, and of words said twice."""
    rng, searcher, cut = random.Random(1), MaxScore(index), 0
    for _ in range(2000):
        said = rng.choices(VOCABULARY, k=rng.randint(1, 12))
        ids, top_k = index.get_tokens_ids(said), rng.choice([1, 3, 10])
        assert searcher.top(ids, top_k) == top_of_all(index, ids, top_k), said
        cut += searcher.candidates(ids, top_k) is not None
    assert 200 < cut < 1800  # both ways were taken


@given(
    st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5), min_size=1, max_size=12),
    st.lists(st.sampled_from("abcdef"), max_size=6),
    st.integers(1, 4),
)
def test_same_for_any_small_corpus(texts, said, top_k):
    """Where many scores are equal. Candidates are looked for however many there are."""
    index = index_of(texts)
    ids = index.get_tokens_ids(said)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(max_score, "FEW", 0)
        assert MaxScore(index).top(ids, top_k) == (top_of_all(index, ids, top_k) if ids else [])


def test_passages_of_a_common_word_are_not_looked_at():
    """Of 1001 passages with "is" three have "oslo"."""
    index = index_of([["is", "oslo"] if i % 400 == 0 else ["is", f"x{i}"] for i in range(1001)])
    found = MaxScore(index).candidates(index.get_tokens_ids(["oslo", "is"]), 3)
    assert found.tolist() == [0, 400, 800]


def test_common_word_counts_where_there_are_too_few_of_the_rare_one():
    index = index_of([["is", "oslo"] if i == 77 else ["is", f"x{i}"] for i in range(1001)])
    assert [place for place, _ in MaxScore(index).top(index.get_tokens_ids(["oslo", "is"]), 3)] == [77, 0, 1]


def test_look_up_finds_what_is_there():
    found, held = look_up(np.array([9, 1, 4, 7]), np.array([1, 3, 7]))
    assert found.tolist() == [0, 2] and held.tolist() == [False, True, False, True]


def test_best_takes_the_first_of_equal_ones_and_none_of_zero():
    assert best(np.array([0, 2, 3, 2], np.float32), 9) == [(2, 3), (1, 2), (3, 2)]


# --- words of a query


@given(st.text())
def test_words_of_a_query_are_those_of_the_corpus_tokenizer(text):
    assert words(text) == tokenize([text])[0]


# --- requests searched together


@pytest.fixture(scope="module")
def search(tmp_path_factory) -> DiskSearch:
    folder = tmp_path_factory.mktemp("zipf")
    texts = zipf_texts(200, 2)
    write_jsonl(folder / "c.jsonl", [{"id": str(i), "contents": f'"t{i}"\n{" ".join(t)}'} for i, t in enumerate(texts)])
    build(folder / "c.jsonl", folder / "index", None)
    return DiskSearch(folder / "index")


def test_each_request_gets_its_own_answer(search, monkeypatch):
    """Forty at once, of no, one or two queries each, in fewer searches than requests."""
    rng, calls, scored = random.Random(3), [], search.scored
    asked = [(rng.choices(VOCABULARY, k=i % 3), rng.randint(1, 5)) for i in range(40)]
    monkeypatch.setattr(search, "scored", lambda *request: calls.append(request) or scored(*request))

    async def ask() -> list:
        searcher = SearchTogether(search)
        return await asyncio.gather(*(searcher.scored(*request) for request in asked))

    assert asyncio.run(ask()) == [scored(*request) for request in asked]
    assert len(calls) < 5


def test_fault_reaches_all_who_wait_and_the_next_search_works(search, monkeypatch):
    def fault(*_):
        raise OSError("disk")

    async def ask() -> list:
        searcher = SearchTogether(search)
        with monkeypatch.context() as patch:
            patch.setattr(search, "scored", fault)
            faults = await asyncio.gather(*(searcher.scored(["w1"], 3) for _ in range(3)), return_exceptions=True)
        return [*map(str, faults), len((await searcher.scored(["w1"], 3))[0])]

    assert asyncio.run(ask()) == ["disk", "disk", "disk", 3]


def test_one_who_went_away_does_not_hold_up_the_others(search):
    async def ask() -> list:
        searcher = SearchTogether(search)
        gone, stays = (asyncio.create_task(searcher.scored(["w1"], 1)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert asyncio.run(ask()) == search.scored(["w1"], 1)


@pytest.mark.parametrize(
    ("sizes", "taken"), [([1, 2, 3], 3), ([5, 5, 1], 2), ([10, 1], 1), ([4, 7, 1], 1), ([0, 10, 0, 1], 3)]
)
def test_no_more_queries_are_taken_together_than_one_request_may_have(sizes, taken, monkeypatch):
    monkeypatch.setattr(together, "MAX_QUERIES", 10)
    waiting = deque(Request(["q"] * size, 3, None) for size in sizes)
    assert [len(r.queries) for r in take(waiting)] == sizes[:taken] and len(waiting) == len(sizes) - taken


# --- the bench


def test_load_posts_every_body_once_over_as_many_connections(search, monkeypatch):
    seen, scored = [], search.scored
    monkeypatch.setattr(search, "scored", lambda queries, top_k: seen.extend(queries) or scored(queries, top_k))
    with running(app_of(search)) as url:
        found = load(f"{url}/retrieve", [json.dumps({"queries": [f"w{i}"]}).encode() for i in range(50)], 8)
    assert sorted(seen) == sorted(f"w{i}" for i in range(50)) and found["requests"] == 50
    assert 0 < found["p50_ms"] <= found["p99_ms"]


def test_load_ends_at_an_answer_that_is_none(search):
    with running(app_of(search)) as url, pytest.raises(ExceptionGroup) as fault:
        load(f"{url}/retrieve", [b"{}"] * 3, 1)
    assert fault.group_contains(ConnectionError, match="422")


def test_larger_corpora_are_read_off_straight_lines():
    """Rows of 7 and 3 a posting, the server's memory of 5 and 2 a word."""
    rows = [
        dict.fromkeys(retrieval.LINES, 7 + 3 * n) | {"server_mib": 5 + 2 * words, "postings": n, "words": words}
        for n, words in ((1, 9), (2, 3), (4, 8))
    ]
    assert retrieval.extrapolated(rows, 1000, 100) == {
        "postings": 1000,
        "words": 100,
        "build_seconds": 3007,
        "build_peak_mib": 3007,
        "index_mib": 3007,
        "server_mib": 205,
    }
