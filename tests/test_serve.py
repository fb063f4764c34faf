"""The chat endpoint and its page: OpenAI's own client reads it, searches come between the turns, limits hold."""

import json
import shutil
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from helpers import Scripted, running, small_tool

from asl_min.corpus import Passage
from asl_min.phase import Agent
from asl_min.run.errors import InputError
from asl_min.tools import ask, chat_format, serve

SEARCH = '<think>look</think><tool_call>{"name": "retrieve", "arguments": {"query": "France"}}</tool_call>'
ANSWER = "<think>read</think><answer>Paris</answer>"
ASKED = [{"role": "user", "content": "What is the capital of France?"}]
HOSTILE = "<img src=x onerror=window.hit=1>"


@pytest.fixture(scope="module")
def write():
    """What the model writes, by the text that it has read; a test may put another function in `write.now`."""
    return SimpleNamespace(now=None, plain=lambda text, seed: ANSWER if "tool_response" in text else SEARCH)


@pytest.fixture(scope="module")
def agents(config, write):
    """Two agents, whose samplers write what `write` says: one searches and answers, the other answers at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "asl_min.sampling.generate.Generator",
            lambda model, chat: Scripted(chat, write=lambda text, seed: (write.now or write.plain)(text, seed)),
        )
        found = Agent(replace(config, max_episode_tokens=2048, max_turn_tokens=64), {})
        patch.setattr(
            "asl_min.sampling.generate.Generator",
            lambda model, chat: Scripted(chat, write=lambda text, seed: f"<answer>{HOSTILE}</answer>"),
        )
        other = Agent(replace(config, max_episode_tokens=2048, max_turn_tokens=64), {})
    found.tool = found._rollout.tool = small_tool()
    return {"run": found, "base": other}


@pytest.fixture
def client(agents):
    return TestClient(serve.app_of(agents), base_url="http://localhost", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def address(agents):
    """The address of a real server on the loopback."""
    with running(serve.app_of(agents)) as url:
        yield url


@pytest.fixture(scope="module")
def openai(address):
    return pytest.importorskip("openai").OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


# --- with OpenAI's client


def test_client_lists_the_checkpoints(openai):
    assert [model.id for model in openai.models.list()] == ["run", "base"]


def test_client_gets_the_answer_its_searches_and_its_passages(openai):
    found = openai.chat.completions.create(model="run", messages=ASKED)
    message = found.choices[0].message
    assert message.content == 'Paris [1] [2]\n[1] "France" (1)\n[2] "Paris" (0)'
    assert found.choices[0].finish_reason == "stop" and message.reasoning_content == "look\nread\n"
    (call,) = message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("retrieve", {"query": ["France"]})
    assert [passage["title"] for passage in call.passages] == ["France", "Paris"]
    assert [citation["id"] for citation in message.citations] == ["1", "0"]
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens > 20


def test_client_streams_the_same_turn_by_turn(openai):
    whole = openai.chat.completions.create(model="run", messages=ASKED)
    chunks = list(
        openai.chat.completions.create(
            model="run", messages=ASKED, stream=True, stream_options={"include_usage": True}, max_tokens=5, top_p=0.5
        )
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(d.content or "" for d in deltas) == whole.choices[0].message.content
    assert [(bool(d.tool_calls), bool(d.content)) for d in deltas] == [
        (False, False),
        (True, False),
        (False, False),
        (False, True),
        (False, False),
    ]
    assert deltas[1].tool_calls[0].function.arguments == whole.choices[0].message.tool_calls[0].function.arguments
    assert chunks[-1].usage == whole.usage and {chunk.id for chunk in chunks} == {chunks[0].id}
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


def test_search_is_sent_before_the_answer_is_written(openai, write, monkeypatch):
    """The second turn waits until the client has read the first."""
    seen = threading.Event()

    def patient(text: str, seed: int) -> str:
        if "tool_response" in text:
            assert seen.wait(20)
        return write.plain(text, seed)

    monkeypatch.setattr(write, "now", patient)
    chunks = iter(openai.chat.completions.create(model="run", messages=ASKED, stream=True))
    assert next(chunk for chunk in chunks if chunk.choices[0].delta.tool_calls)
    seen.set()
    assert "Paris" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_client_reads_the_errors(openai):
    errors = pytest.importorskip("openai")
    with pytest.raises(errors.NotFoundError, match="no model 'gpt'; there are run, base"):
        openai.chat.completions.create(model="gpt", messages=ASKED)
    with pytest.raises(errors.BadRequestError, match="no message of the user"):
        openai.chat.completions.create(model="run", messages=[{"role": "system", "content": "x"}])


# --- what is asked


@pytest.mark.parametrize(
    ("messages", "question"),
    [
        (
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
            "c",
        ),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": None}], "a"),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]}], "a"),
    ],
)
def test_question_is_the_last_message_of_the_user(messages, question):
    assert serve.Completion(model="run", messages=messages).question == question


def test_temperature_and_seed_reach_the_sampler(client, write, monkeypatch):
    seeds = []
    monkeypatch.setattr(write, "now", lambda text, seed: seeds.append(seed) or ANSWER)
    for seed in (1, 2, 1):
        body = {"model": "run", "messages": ASKED, "temperature": 1, "seed": seed}
        assert client.post("/v1/chat/completions", json=body).status_code == 200
    assert seeds[0] == seeds[2] != seeds[1]


# --- limits


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"messages": ASKED}, 400, "model: Field required"),
        ({"model": "run", "messages": []}, 400, "messages: List should have at least 1 item"),
        ({"model": "run", "messages": ASKED, "n": 2}, 400, "n: Input should be 1"),
        ({"model": "run", "messages": ASKED, "temperature": 3}, 400, "temperature"),
        ({"model": "run", "messages": [{"role": "user", "content": "x" * 5000}]}, 400, "5000 characters, at most 4000"),
        ({"model": "run", "messages": [{"role": "user", "content": "x" * 300_000}]}, 413, "more than 262144 bytes"),
    ],
)
def test_bad_requests_are_told_in_openais_form(client, body, status, said):
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == status and said in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:8002"}, 200),
        ({"Transfer-Encoding": "chunked"}, 411),
    ],
)
def test_pages_of_other_sites_are_refused(client, headers, status):
    assert client.get("/v1/models", headers=headers).status_code == status


def test_no_more_requests_are_held_than_allowed(agents, write, monkeypatch):
    going_on = threading.Event()
    monkeypatch.setattr(write, "now", lambda text, seed: going_on.wait(20) and ANSWER)
    player = serve.Player()
    held = [player.play(agents["run"], "Q?", 0.0, 0) for _ in range(serve.MAX_WAITING)]
    with pytest.raises(serve.Refusal) as refusal:
        player.play(agents["run"], "Q?", 0.0, 0)
    assert refusal.value.response.status_code == 429 and refusal.value.response.headers["retry-after"]
    going_on.set()
    assert all(list(played)[-1].turns for played in held)
    assert list(player.play(agents["run"], "Q?", 0.0, 0))


def test_fault_of_a_search_server_is_told_whole_and_streamed(client, agents, monkeypatch):
    def away(requests, temperature):
        raise InputError("search_url http://x: ConnectError")

    monkeypatch.setattr(agents["run"], "rollout", lambda role, requests, temperature: away(requests, temperature))
    body = {"model": "run", "messages": ASKED}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 500 and "search_url" in answer.json()["error"]["message"]
    streamed = client.post("/v1/chat/completions", json=body | {"stream": True}).text
    assert '"error": {"message": "search_url' in streamed and streamed.endswith("data: [DONE]\n\n")


# --- citations


READ = [Passage("1", "France", "The capital is Paris."), Passage("2", "Parish", "A parish.")]


@pytest.mark.parametrize(
    ("answer", "cited", "holds"),
    [("paris!", ["1"], True), ("Lyon", ["1", "2"], False), ("The", ["1", "2"], False), ("France", ["1"], True)],
)
def test_passages_that_hold_the_answer_as_whole_words_are_cited(answer, cited, holds):
    """ "The" is nothing after normalisation, and a title counts as text."""
    found, held = chat_format.cite(answer, READ)
    assert ([passage.id for passage in found], held) == (cited, holds)


def test_answer_that_no_passage_holds_says_so(client, write, monkeypatch):
    monkeypatch.setattr(write, "now", lambda text, seed: "<answer>Oslo</answer>" if "tool_response" in text else SEARCH)
    message = client.post("/v1/chat/completions", json={"model": "run", "messages": ASKED}).json()["choices"][0]
    assert message["message"]["content"].startswith('Oslo\nNo passage that it read has these words.\n[1] "France"')


def test_episode_without_an_answer_says_how_it_ended(client, write, monkeypatch):
    monkeypatch.setattr(write, "now", lambda text, seed: SEARCH)
    choice = client.post("/v1/chat/completions", json={"model": "run", "messages": ASKED}).json()["choices"][0]
    assert choice["message"]["content"] == "No answer (the episode ended: max_turns)."
    assert len(choice["message"]["tool_calls"]) == 2 and choice["finish_reason"] == "stop"


# --- the command


def test_dry_run_says_where(script, config, tmp_path, capsys):
    words = ["base", "--config", "configs/tiny.yaml", "--port", "8123", "--dry-run", "--json"]
    assert script("asl_min.tools.serve", *words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"url": "http://127.0.0.1:8123/v1", "page": "http://127.0.0.1:8123", "models": ["base"]}


@pytest.mark.parametrize("words", [["nowhere"], ["base", "--port", "0"], ["base", "no_such_key=1"]])
def test_wrong_arguments_end_in_one_line(words, script, capsys):
    assert script("asl_min.tools.serve", *words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_two_checkpoints_share_the_settings_of_ask():
    assert ask.config_of(["base"], None, ["top_k=1"]).top_k == 1


# --- the page, in a browser where playwright and a Chromium are installed


@pytest.fixture(scope="module")
def tab(address):
    playwright = pytest.importorskip("playwright.sync_api")
    binary = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
    if binary is None:
        pytest.skip("no Chromium on the path")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        page.errors, page.asked = [], []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: page.errors.append(message.text))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address)
        page.fill("#question", "What is the capital of France?")
        page.click("#go")
        page.locator(".answer").nth(1).wait_for()
        yield page
        browser.close()


def test_page_shows_both_checkpoints_side_by_side_with_their_searches(tab):
    left, right = tab.locator("section").all()
    assert [left.locator("h2").inner_text(), right.locator("h2").inner_text()] == ["run", "base"]
    assert left.locator(".search").all_inner_texts() == ["search: France"] and right.locator(".search").count() == 0
    assert left.locator("summary").all_inner_texts() == ["France", "Paris"]
    assert left.locator(".answer").inner_text().startswith("Paris [1] [2]")
    assert left.bounding_box()["x"] < right.bounding_box()["x"]
    left.locator("summary").first.click()
    assert "The capital is Paris." in left.inner_text()


def test_page_takes_nothing_of_the_model_for_html_and_asks_no_other_address(tab, address):
    assert HOSTILE in tab.inner_text("section:nth-of-type(2)") and tab.evaluate("window.hit") is None
    assert tab.errors == [] and {url.split("/")[2] for url in tab.asked} == {address.removeprefix("http://")}


def test_page_stands_one_below_the_other_on_a_phone(tab):
    tab.set_viewport_size({"width": 390, "height": 800})
    boxes = [section.bounding_box() for section in tab.locator("section").all()]
    assert boxes[0]["y"] < boxes[1]["y"] and tab.evaluate("document.documentElement.scrollWidth") == 390
    tab.set_viewport_size({"width": 1000, "height": 800})


def test_page_shows_an_error(tab, agents, monkeypatch):
    monkeypatch.setattr(serve, "MAX_QUESTION", 3)
    tab.click("#go")
    tab.locator(".error").nth(1).wait_for()
    assert "characters, at most 3" in tab.inner_text(".error >> nth=0")
    assert tab.locator(".answer").count() == 0
    assert tab.is_enabled("#go")


def test_models_are_listed_and_described_as_clients_expect(client):
    listed = client.get("/v1/models").json()["data"]
    assert all(model["created"] > 1.7e9 for model in listed)
    assert client.get(f"/v1/models/{listed[0]['id']}").json() == listed[0]
    assert client.get("/v1/models/nobody").status_code == 404
