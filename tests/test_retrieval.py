"""Indices on disk, the retrieval server in Search-R1's wire format, its client, and the loaders of hub files (on small
files of the same form)."""

import gzip
import json

import httpx2
import numpy as np
import pytest
import torch
from helpers import new_tokenizer, running
from huggingface_hub.errors import LocalEntryNotFoundError
from starlette.testclient import TestClient
from transformers import BertConfig, BertModel

from asl_min.corpus import load_corpus, load_questions
from asl_min.phase import Agent
from asl_min.run import http_client
from asl_min.run.errors import InputError
from asl_min.run.http_client import HttpClient
from asl_min.search import dense, hub
from asl_min.search.bm25 import Bm25Search, tokenize
from asl_min.search.dense import Encoder
from asl_min.search.disk import DiskSearch, build
from asl_min.search.passages import PassageFile
from asl_min.search.remote import RemoteSearch, read_result
from asl_min.search.server import MAX_BYTES, app_of
from asl_min.search.tool import respond


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    """A small random BERT in the place of E5."""
    folder, tokenizer = tmp_path_factory.mktemp("encoder"), new_tokenizer()
    torch.manual_seed(0)
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "initializer_range": 0.5,
    }
    BertModel(BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=["bm25", "dense"])
def index(request, data, encoder, tmp_path_factory) -> DiskSearch:
    folder = tmp_path_factory.mktemp(request.param)
    build(data / "corpus.jsonl", folder, encoder if request.param == "dense" else None)
    return DiskSearch(folder)


@pytest.fixture(scope="module")
def served(index):
    with running(app_of(index)) as url:
        yield url, index


# --- indices


def test_bm25_on_disk_finds_what_the_built_in_tool_finds(data, tmp_path):
    build(data / "corpus.jsonl", tmp_path, None)
    on_disk, memory = DiskSearch(tmp_path), Bm25Search(load_corpus(data / "corpus.jsonl"))
    for passage in memory.passages[::7]:
        every = memory._index.get_scores(*tokenize([passage.title]))
        found = on_disk.scored([passage.title], 3)[0]
        assert [score for _, score in found] == pytest.approx(sorted(every, reverse=True)[: len(found)])
        assert all(every[memory.passages.index(p)] == pytest.approx(score) for p, score in found)
        assert len(found) == min(3, np.count_nonzero(every)) == len({p.text for p, _ in found})
    assert respond(on_disk, ["zzzz"]) == "nothing found" and respond(on_disk, []) == "nothing found"


def test_dense_search_ranks_by_the_encoders_own_similarity(data, encoder, tmp_path):
    build(data / "corpus.jsonl", tmp_path, encoder)
    encode, passages = Encoder(encoder), load_corpus(data / "corpus.jsonl")
    scores = (encode("query: ", ["time zone"]) @ encode("passage: ", [p.contents for p in passages]).T)[0]
    found = DiskSearch(tmp_path).scored(["time zone"], 5)[0]
    assert [score for _, score in found] == pytest.approx(sorted(scores.tolist(), reverse=True)[:5], abs=1e-5)
    assert found[0][0] == passages[int(scores.argmax())]


def test_encoder_does_not_depend_on_the_batch(encoder):
    encode, texts = Encoder(encoder), ["Paris", "a much longer text about the capital of France and its population"]
    alone = np.stack([encode("query: ", [t])[0] for t in texts])
    assert encode("query: ", texts) == pytest.approx(alone, abs=1e-5)
    assert (alone**2).sum(1) == pytest.approx([1, 1], abs=1e-5)


def test_passages_are_read_by_their_place(tmp_path):
    rows = [{"id": str(i), "contents": f'"Título {i}"\nteksten {i} Ü'} for i in range(5)]
    (tmp_path / "c.jsonl").write_text(
        "\n".join(json.dumps(r, ensure_ascii=False) for r in rows[:3])
        + "\n\n"
        + "\n".join(json.dumps(r) for r in rows[3:])
    )
    passages = PassageFile.scan(tmp_path / "c.jsonl")
    assert [passages[i] for i in range(len(passages))] == load_corpus(tmp_path / "c.jsonl")


@pytest.mark.parametrize(
    ("make", "said"), [(lambda f: None, "no such file"), (lambda f: f.write_text("\n"), "the corpus is empty")]
)
def test_corpus_that_is_none_is_refused(tmp_path, make, said):
    make(tmp_path / "c.jsonl")
    with pytest.raises(InputError, match=said):
        build(tmp_path / "c.jsonl", tmp_path / "index", None)
    with pytest.raises(InputError, match="holds no index"):
        DiskSearch(tmp_path / "index")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("index.json", "{", r"index\.json: damaged"),
        ("index.json", "[]", r"index\.json: damaged"),
        ("offsets.npy", "x", "the index is damaged"),
        ("params.index.json", "{", "the index is damaged"),
        ("vocab.index.json", "{", "the index is damaged"),
    ],
)
def test_damaged_index_is_refused(tmp_path, file, content, said):
    (tmp_path / "c.jsonl").write_text('{"id": "1", "contents": "\\"Rome\\"\\nin Italy"}\n')
    build(tmp_path / "c.jsonl", tmp_path / "index", None)
    (tmp_path / "index" / file).write_text(content)
    with pytest.raises(InputError, match=said):
        DiskSearch(tmp_path / "index")


def test_changed_corpus_is_refused(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"id": "1", "contents": "\\"Rome\\"\\nin Italy"}\n')
    build(tmp_path / "c.jsonl", tmp_path / "index", None)
    (tmp_path / "c.jsonl").write_text('{"id": "1", "contents": "\\"Rome\\"\\nis elsewhere"}\n')
    with pytest.raises(InputError, match="is gone or has changed"):
        DiskSearch(tmp_path / "index")


# --- server and client


@pytest.mark.parametrize("scores", [True, False])
def test_wire_format(served, scores):
    url, index = served
    answer = httpx2.post(
        f"{url}/retrieve", json={"queries": ["currency", "capital"], "topk": 2, "return_scores": scores}
    ).json()
    assert [len(row) for row in answer["result"]] == [2, 2]
    first = answer["result"][0][0]
    document = first["document"] if scores else first
    assert document["contents"] == f'"{document["title"]}"\n{document["text"]}' and ("score" in first) == scores
    assert read_result(answer, 2) == [[p for p, _ in row] for row in index.scored(["currency", "capital"], 2)]


@pytest.mark.parametrize(
    "body", [{}, {"queries": "x"}, {"queries": ["x"], "topk": 0}, {"queries": ["x"], "topk": 10**9}, {"queries": [1]}]
)
def test_malformed_request_is_refused(served, body):
    assert httpx2.post(f"{served[0]}/retrieve", json=body).status_code == 422


def test_odd_queries_are_answered(served):
    queries = ["", "\x00", "Ü" * 5000, "?!", " "]
    assert len(httpx2.post(f"{served[0]}/retrieve", json={"queries": queries}).json()["result"]) == len(queries)


def test_remote_tool_responds_as_the_index(served, tmp_path):
    url, index = served
    remote = RemoteSearch(url, 3, tmp_path / "cache.sqlite")
    for queries in (["Where is the capital?"], ["time zone", "population", "time zone"], []):
        assert respond(remote, queries) == respond(index, queries)


def test_answers_are_kept_on_disk(served, tmp_path, monkeypatch):
    url, _ = served
    first = RemoteSearch(url, 3, tmp_path / "cache.sqlite")
    expected = respond(first, ["capital"])
    again = RemoteSearch(url, 3, tmp_path / "cache.sqlite")
    monkeypatch.setattr(again.http, "call", lambda *a, **k: pytest.fail("asked again"))
    assert respond(again, ["capital"]) == expected
    assert RemoteSearch(url, 2, tmp_path / "cache.sqlite")._known("capital") is None


@pytest.mark.parametrize(
    "answer", [{}, {"result": []}, {"result": [[{"document": 1}]]}, {"result": [[{"contents": ""}]]}, [], {"result": 3}]
)
def test_malformed_answer_is_a_clear_error(tmp_path, answer, monkeypatch):
    monkeypatch.setattr(http_client, "BACKOFF", 0.001)
    monkeypatch.setattr(HttpClient, "_request", lambda self, method, path, body: httpx2.Response(200, json=answer))
    remote = RemoteSearch("http://127.0.0.1:9", 3, tmp_path / "cache.sqlite")
    with pytest.raises(InputError, match=r"search_url http://127.0.0.1:9/retrieve: malformed answer.*after 8 attempts"):
        respond(remote, ["x"])


def test_server_that_is_not_there_is_reported_at_once(tmp_path, monkeypatch):
    """Not after the many attempts that a request in the middle of a run has."""
    monkeypatch.setattr(http_client, "BACKOFF", 0.001)
    with pytest.raises(InputError, match=r"search_url http://127.0.0.1:9/health: ConnectError.*\(after 2 attempts\)"):
        RemoteSearch("http://127.0.0.1:9", 3, tmp_path / "cache.sqlite")


def test_server_without_a_health_page_is_searched(tmp_path, monkeypatch):
    def request(self, method, path, body):
        return httpx2.Response(200, json={"result": [[]]}) if path == "/retrieve" else httpx2.Response(404)

    monkeypatch.setattr(HttpClient, "_request", request)
    assert RemoteSearch("http://127.0.0.1:9", 3, tmp_path / "cache.sqlite").retrieve(["x"]) == [[]]


def test_agent_searches_by_the_server_when_told_to(served, changed, tmp_path):
    url, index = served
    agent = Agent(changed(search_url=url, server_folder=str(tmp_path)), {})
    assert respond(agent._rollout.tool, ["capital"]) == respond(index, ["capital"])
    assert agent.passages


def test_server_command_refuses_a_folder_without_index(tmp_path, script, capsys):
    code, said = script("asl_min.search.server", "--index", tmp_path), capsys.readouterr().err
    assert code == 2 and said.startswith("error: ") and "holds no index" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", 0], "--port: 0, must be 1 to 65535"),
        (["--port", 65536], "--port: 65536, must be 1 to 65535"),
        (["--top-k", 0], "--top-k: 0, must be 1 to 100"),
        (["--top-k", 101], "--top-k: 101, must be 1 to 100"),
    ],
)
def test_server_command_refuses_numbers_out_of_range(words, said, tmp_path, script, capsys):
    assert script("asl_min.search.server", "--index", tmp_path, *words) == 2
    assert capsys.readouterr().err == f"error: argument {said} (see --help)\n"


def test_index_command_says_on_stdout_only_what_it_made(data, tmp_path, script, capsys):
    words = ["--corpus", data / "corpus.jsonl", "--index", tmp_path / "index"]
    assert script("asl_min.search.disk", *words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["passages"] == 40
    assert script("asl_min.search.disk", *words) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_index_in_the_place_of_a_file_is_one_line(data, script, capsys):
    corpus = data / "corpus.jsonl"
    assert script("asl_min.search.disk", "--corpus", corpus, "--index", corpus, "--quiet") == 1
    assert capsys.readouterr().err == f"error: {corpus}: File exists\n"


def test_malformed_passage_is_named_by_its_line(tmp_path):
    corpus = tmp_path / "c.jsonl"
    corpus.write_text('{"id": 0, "contents": "a"}\n{"id": 1}\n')
    with pytest.raises(InputError, match=r"c\.jsonl:2: key 'contents' is missing"):
        build(corpus, tmp_path / "index", None)


def test_file_that_cannot_keep_answers_is_one_line(tmp_path):
    (tmp_path / "cache").write_text("not a database, but long enough to be looked at as one" * 20)
    for place in (tmp_path, tmp_path / "cache"):
        with pytest.raises(InputError, match="cannot keep the answers"):
            RemoteSearch("http://localhost:1", 3, place)


# --- the hub's files


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """Small files in the place of the hub's, by repository and name."""
    files = {}

    def download(repo: str, file: str, repo_type: str) -> str:
        assert repo_type == "dataset"
        return str(files[repo, file])

    monkeypatch.setattr(hub, "hf_hub_download", download)

    def add(repo: str, file: str, content: bytes) -> None:
        path = tmp_path / "mirror" / repo / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        files[repo, file] = path

    return add


@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        ("asl_min.search.hub", ["e5", "--out", "OUT"], "would get e5 from PeterJinGo/wiki-18-e5-index, 64 GB"),
        ("asl_min.search.disk", ["--corpus", "CORPUS", "--index", "OUT"], "would get a BM25 index of"),
    ],
)
def test_dry_run_fetches_and_writes_nothing(module, words, said, mirror, tmp_path, data, script, capsys):
    places = {"OUT": str(tmp_path / "new"), "CORPUS": str(data / "corpus.jsonl")}
    assert script(module, *(places.get(word, word) for word in words), "--dry-run") == 0
    assert said in capsys.readouterr().out and not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (LocalEntryNotFoundError("An error happened"), "the hub cannot be reached"),
        (httpx2.ConnectError("refused\nagain"), "refused"),
    ],
)
def test_hub_that_does_not_answer_is_one_line(error, why, tmp_path, monkeypatch, script, capsys):
    def download(*_, **__):
        raise error

    monkeypatch.setattr(hub, "hf_hub_download", download)
    code = script("asl_min.search.hub", "questions", "--out", tmp_path)
    said = capsys.readouterr().err
    assert code == 2 and said.startswith("error: RUC-NLPIR/FlashRAG_datasets: nq/test.jsonl")
    assert said.endswith(f": {why}\n") and said.count("\n") == 1


def test_seven_sets_become_one_file_in_turn(mirror, tmp_path):
    for name, split in hub.SETS.items():
        rows = [
            {"id": f"{split}_{i}", "question": f"{name} {i}?", "golden_answers": ["a", "b"], "metadata": {"x": [1]}}
            for i in range(3)
        ]
        mirror("RUC-NLPIR/FlashRAG_datasets", f"{name}/{split}.jsonl", "\n".join(map(json.dumps, rows)).encode())
    hub.questions(tmp_path, 2)
    found = load_questions(tmp_path / "questions.jsonl")
    assert len(found) == 14 and [row["metadata"]["dataset"] for row in found[:7]] == list(hub.SETS)
    assert found[0] == {
        "id": "nq/test_0",
        "question": "nq 0?",
        "golden_answers": ["a", "b"],
        "metadata": {"dataset": "nq"},
    }


def test_wikipedia_is_unpacked_and_its_index_joined(mirror, tmp_path, data, encoder, monkeypatch):
    lines = (data / "corpus.jsonl").read_bytes()
    mirror("PeterJinGo/wiki-18-corpus", "wiki-18.jsonl.gz", gzip.compress(lines))
    hub.corpus(tmp_path / "wiki")
    assert (tmp_path / "wiki" / "corpus.jsonl").read_bytes() == lines
    assert len(load_corpus(tmp_path / "wiki" / "topics.jsonl")) == len(load_corpus(data / "corpus.jsonl"))
    build(data / "corpus.jsonl", tmp_path / "own", encoder)
    whole = (tmp_path / "own" / "flat.faiss").read_bytes()
    for part, content in (("part_aa", whole[:1000]), ("part_ab", whole[1000:])):
        mirror("PeterJinGo/wiki-18-e5-index", part, content)
    hub.e5(tmp_path / "wiki" / "e5")
    monkeypatch.setattr(dense, "Encoder", lambda name: Encoder(encoder))
    joined, own = DiskSearch(tmp_path / "wiki" / "e5"), DiskSearch(tmp_path / "own")
    assert respond(joined, ["capital"]) == respond(own, ["capital"])


def test_body_that_is_too_long_is_refused(index):
    with TestClient(app_of(index)) as client:
        assert client.post("/retrieve", content=b"x" * (MAX_BYTES + 1)).status_code == 413
        assert client.post("/retrieve", content=b"x").status_code == 422
