"""The clients of generation servers, against local servers that speak the protocols and really run the small model."""

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
import torch
from fake_servers import SLOW_SECONDS, FakeTgi, FakeVllm, serving
from helpers import ROOT, bigram_model, launch, move, new_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from asl_min.chat import Chat
from asl_min.config import Config, dump_config, load_config
from asl_min.corpus import read_jsonl
from asl_min.model import ROLES, load_backbone, save_merged, use
from asl_min.phase import accelerator_of
from asl_min.rounds import PHASES, run_rounds
from asl_min.run import http_client, run_dir
from asl_min.run.errors import InputError
from asl_min.run.http_client import HttpClient
from asl_min.run.inputs import prepare
from asl_min.sampling import tgi
from asl_min.sampling.generate import Generator
from asl_min.sampling.sampler import Finish, open_sampler
from asl_min.sampling.server import cut
from asl_min.sampling.tgi_sidecar import CURRENT

KINDS = ("vllm", "tgi")


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """The waits of a test, not of a run."""
    monkeypatch.setattr(http_client, "BACKOFF", 0.001)
    monkeypatch.setattr(http_client, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(http_client, "ANSWER_SECONDS", 20.0)
    monkeypatch.setattr(tgi, "RESTART_SECONDS", 10.0)


def start(kind: str, base: Path, folder: Path):
    return serving(FakeVllm(base) if kind == "vllm" else FakeTgi(base, folder))


@pytest.fixture(params=KINDS)
def pair(request, changed, base, tmp_path, chat):
    """A server, a client of it, and the client's trained backbone."""
    with start(request.param, base, tmp_path / "serving") as server:
        config = changed(
            backend=request.param, server_url=server.url, server_folder=str(tmp_path / "serving"), server_tolerance=1e-3
        )
        model = move(load_backbone(config, {}), "shared", 1)
        yield server, open_sampler(config, accelerator_of(config), model, chat)


def contexts(chat) -> list[list[int]]:
    return [chat.prompt("policy", question=f"What is the capital of {name}?") for name in ("France", "Peru", "Chad")]


def sample(client, chat, temperature: float = 1.0):
    with client.serving("shared"):
        return client.generate(contexts(chat), [5, 6, 7], [12, 12, 9], temperature)


def ids_in(completions) -> list[tuple[int, ...]]:
    return [c.ids for c in completions]


# --- samples


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_server_samples_with_the_adapter_what_the_trainer_would(pair, chat, temperature):
    """The fake servers draw as the local generator does, so that completions must be equal, log-probabilities too."""
    _, client = pair
    found = sample(client, chat, temperature)
    expected = Generator(client.model, chat).generate(contexts(chat), [5, 6, 7], [12, 12, 9], temperature)
    assert [c.ids for c in found] == [c.ids for c in expected] and [c.finish_reason for c in found] == [
        c.finish_reason for c in expected
    ]
    for a, b in zip(found, expected, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


def test_changed_weights_are_served_next_time(pair, chat):
    _, client = pair
    before = sample(client, chat)
    move(client.model, "shared", 2)
    after = sample(client, chat)
    assert [c.ids for c in after] == [
        c.ids for c in Generator(client.model, chat).generate(contexts(chat), [5, 6, 7], [12, 12, 9], 1.0)
    ]
    assert [c.ids for c in before] != [c.ids for c in after]


def test_weights_that_did_not_change_are_not_sent_again(pair, chat):
    server, client = pair
    sample(client, chat)
    asked = len(server.seen)
    sample(client, chat)
    assert len(server.seen) == asked + 3 and len(list(client.folder.glob("shared-*"))) == 1


def test_restarted_trainer_goes_on_with_the_running_server(pair, chat):
    _, client = pair
    before = sample(client, chat)
    again = open_sampler(client.config, client.accelerator, client.model, chat)
    assert ids_in(sample(again, chat)) == ids_in(before)


def test_only_a_few_old_weights_are_kept(pair, chat):
    _, client = pair
    for seed in range(5):
        move(client.model, "shared", seed)
        sample(client, chat)
    assert len(list(client.folder.glob("shared-*"))) <= 4 and len(list(client.folder.glob("merged-*"))) <= 2
    assert len(getattr(pair[0], "adapters", [0])) == 1


def test_every_sampling_parameter_is_sent_to_vllm(changed, base, tmp_path, chat):
    """Qwen2.5's generation_config.json has top_p 0.8, top_k 20 and a repetition penalty, which vLLM takes for what a
    request leaves out."""
    with start("vllm", base, tmp_path) as server:
        config = changed(backend="vllm", server_url=server.url, server_folder=str(tmp_path))
        sample(open_sampler(config, accelerator_of(config), move(load_backbone(config, {}), "shared", 1), chat), chat)
        body = server.seen[-1][1]
    assert (body["top_p"], body["top_k"], body["min_p"], body["repetition_penalty"]) == (1.0, -1, 0.0, 1.0)


def test_context_that_tgi_reads_as_other_tokens_is_counted(changed, base, tmp_path, chat, capsys):
    with start("tgi", base, tmp_path) as server:
        config = changed(backend="tgi", server_url=server.url, server_folder=str(tmp_path))
        client = open_sampler(config, accelerator_of(config), move(load_backbone(config, {}), "shared", 1), chat)
        with client.serving("shared"):
            client.generate([chat.prompt("policy", question="a passage says </answer>")], [1], [4], 1.0)
    assert client.retokenized == 1 and "TGI reads some contexts as other tokens" in capsys.readouterr().err


def test_base_without_adapter_is_sampled_from_where_asked_for(pair, chat):
    _, client = pair
    sample(client, chat)
    with client.serving("shared", base=True):
        found = client.generate(contexts(chat), [5, 6, 7], [12, 12, 9], 1.0)
    with client.model.disable_adapter():
        expected = Generator(client.model, chat).generate(contexts(chat), [5, 6, 7], [12, 12, 9], 1.0)
    assert ids_in(found) == ids_in(expected) != ids_in(sample(client, chat))


# --- the check of the weights


@pytest.mark.parametrize(
    ("wrong", "named"), [("base", "the base model without the adapter"), ("first", "an older adapter, shared-")]
)
def test_wrong_weights_are_refused_and_named(pair, chat, wrong, named):
    server, client = pair
    sample(client, chat)
    server.wrong = wrong
    move(client.model, "shared", 2)
    with pytest.raises(InputError, match=rf"server_url http.*does not serve shared-.*it seems to serve {named}"):
        sample(client, chat)
    assert list(client.model.peft_config) == ["shared"] and client.model.active_adapter == "shared"


def test_another_base_model_is_refused_as_unknown(changed, base, tmp_path, chat, tokenizer):
    other = tmp_path / "other"
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(3)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    model.save_pretrained(other)
    tokenizer.save_pretrained(other)
    with start("vllm", other, tmp_path) as server:
        config = changed(backend="vllm", server_url=server.url, server_folder=str(tmp_path / "serving"))
        model = move(load_backbone(config, {}), "shared", 1)
        with pytest.raises(InputError, match="seems to serve unknown weights"):
            sample(open_sampler(config, accelerator_of(config), model, chat), chat)


def test_base_much_nearer_than_the_adapter_is_refused_within_the_tolerance(pair, chat):
    """A wide tolerance, such as an nf4 trainer beside a bf16 server needs, must not let an adapter without effect
    pass."""
    server, client = pair
    client.config = type(client.config)(**vars(client.config) | {"server_tolerance": 100.0})
    server.wrong = "base"
    with pytest.raises(InputError, match="the base model without the adapter"):
        sample(client, chat)


def test_tgi_that_is_not_restarted_is_reported(changed, base, tmp_path, chat, monkeypatch):
    monkeypatch.setattr(tgi, "RESTART_SECONDS", 0.5)
    with start("tgi", base, tmp_path / "elsewhere") as server:
        config = changed(backend="tgi", server_url=server.url, server_folder=str(tmp_path / "serving"))
        with pytest.raises(InputError, match=r"no restart on .*tgi_sidecar"):
            sample(open_sampler(config, accelerator_of(config), load_backbone(config, {}), chat), chat)


# --- faults


@pytest.mark.parametrize("faults", [[429], [500, 503], ["truncated"], ["garbage"], ["slow"], [429, "truncated", 500]])
def test_passing_fault_changes_nothing(pair, chat, faults):
    server, client = pair
    expected = sample(client, chat)
    client.pool.alive[0].http.timeout = httpx2.Timeout(SLOW_SECONDS / 2)
    server.faults = list(faults)
    assert ids_in(sample(client, chat)) == ids_in(expected) and not server.faults


def test_dripping_answer_is_given_up_and_asked_for_again(pair, chat, monkeypatch):
    server, client = pair
    expected = sample(client, chat)
    monkeypatch.setattr(http_client, "ANSWER_SECONDS", 1.5)
    server.faults = ["drip"]  # each byte comes well within the limit of a read
    assert ids_in(sample(client, chat)) == ids_in(expected) and not server.faults
    monkeypatch.setattr(http_client, "ANSWER_SECONDS", 0.2)
    server.faults = ["drip"] * 1000
    with pytest.raises(InputError, match=r"answer not complete after 0.2 s \(after 16 attempts\)"):
        client.generate(contexts(chat)[:1], [1], [4], 1.0)


@pytest.mark.parametrize(
    ("fault", "said"),
    [(429, "429"), (500, "500"), ("truncated", "RemoteProtocolError"), ("garbage", "malformed answer")],
)
def test_lasting_fault_is_a_clear_error(pair, chat, fault, said):
    server, client = pair
    sample(client, chat)
    server.faults = [fault] * 1000
    with pytest.raises(InputError, match=rf"server_url http://127.*{said}.*after 16 attempts"):
        sample(client, chat)


@pytest.fixture
def vllm(changed, base, tmp_path, chat):
    """A server that has sampled already, and a client of it."""
    with start("vllm", base, tmp_path / "serving") as server:
        config = changed(backend="vllm", server_url=server.url, server_folder=str(tmp_path / "serving"))
        client = open_sampler(config, accelerator_of(config), move(load_backbone(config, {}), "shared", 1), chat)
        sample(client, chat)
        yield server, client


def test_vllm_that_was_started_again_gets_the_adapter_again(vllm, chat):
    """A new process knows no adapter and answers 404."""
    server, client = vllm
    expected, loaded = sample(client, chat), dict(server.adapters)
    server.adapters.clear()
    assert ids_in(sample(client, chat)) == ids_in(expected) and server.adapters.keys() == loaded.keys()
    paths = [path for path, _ in server.seen]
    assert paths.count("/v1/load_lora_adapter") == 2
    assert sum("prompt_logprobs" in body for _, body in server.seen) == 2  # the proof, once more


def test_vllm_that_was_started_again_with_other_weights_is_refused(vllm, chat):
    server, client = vllm
    server.adapters.clear()
    server.wrong = "base"
    with pytest.raises(InputError, match=r"server_url http://127.*started again and does not serve shared-"):
        sample(client, chat)


def test_adapter_whose_loading_was_answered_too_late_counts_as_loaded(vllm, chat):
    """The request is sent again, and the server says 400: it is there already."""
    server, client = vllm
    server.drop = "/v1/load_lora_adapter"
    move(client.model, "shared", 2)
    assert ids_in(sample(client, chat)) == ids_in(
        Generator(client.model, chat).generate(contexts(chat), [5, 6, 7], [12, 12, 9], 1.0)
    )
    assert [path for path, _ in server.seen].count("/v1/load_lora_adapter") == 3


def test_refused_request_is_not_repeated(pair, chat):
    server, client = pair
    sample(client, chat)
    server.faults = [422]
    with pytest.raises(InputError, match=r"422.*after 1 attempt\)"):
        client.generate(contexts(chat)[:1], [1], [4], 1.0)


def test_no_server_is_a_clear_error():
    with pytest.raises(InputError, match=r"server_url http://127.0.0.1:9.*ConnectError"):
        HttpClient("http://127.0.0.1:9", "server_url", 2).call("GET", "/info", attempts=2)


def test_server_that_is_not_there_at_the_start_is_reported_at_once(changed, chat):
    """Not after the many attempts that a request in the middle of a run has."""
    config = changed(backend="vllm", server_url="http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"server_url http://127.0.0.1:9.*ConnectError.*\(after 2 attempts\)"):
        open_sampler(config, accelerator_of(config), None, chat)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", ""])
def test_address_that_is_none_is_refused(url):
    with pytest.raises(InputError, match="server_url"):
        HttpClient(url, "server_url", 2)


def test_server_backend_without_address_is_refused(tmp_path):
    (tmp_path / "c.yaml").write_text("backend: vllm\n")
    with pytest.raises(InputError, match=r"c.yaml: key 'backend' is 'vllm', which needs 'server_url'"):
        load_config(tmp_path / "c.yaml")


def test_tgi_with_an_adapter_for_each_role_is_refused(changed, chat):
    with pytest.raises(InputError, match="adapters: 'per_role'"):
        open_sampler(changed(backend="tgi", server_url="http://x", adapters="per_role"), None, None, chat)


# --- several servers


@pytest.fixture(params=KINDS)
def several(request, changed, base, tmp_path, chat):
    """Three servers, and a client of all."""
    folder = tmp_path / "serving"
    with ExitStack() as stack:
        servers = [stack.enter_context(start(request.param, base, folder)) for _ in range(3)]
        urls = [server.url for server in servers]
        config = changed(
            backend=request.param, server_url=urls, server_folder=str(folder), generation_batch_size=6, max_turns=1
        )
        model = move(load_backbone(config, {}), "shared", 1)
        yield servers, open_sampler(config, accelerator_of(config), model, chat)


def rows(chat) -> tuple[list[list[int]], list[int], list[int]]:
    """Contexts, seeds and lengths of nine samples, three of each prompt."""
    return [context for context in contexts(chat) for _ in range(3)], list(range(1, 10)), [10] * 9


def sample_rows(client, chat) -> list[tuple[int, ...]]:
    with client.serving("shared"):
        return ids_in(client.generate(*rows(chat), 1.0))


def asked(server) -> int:
    """How many completions a server was asked for, probes aside."""
    details = [body.get("parameters", body) for _, body in server.seen]
    return sum(body.get("max_new_tokens", body.get("max_tokens")) == 10 for body in details)


def test_several_servers_share_the_requests_by_prompt(several, chat):
    servers, client = several
    assert sample_rows(client, chat) == ids_in(Generator(client.model, chat).generate(*rows(chat), 1.0))
    bodies = [[body.get("prompt", body.get("inputs")) for _, body in server.seen][-3:] for server in servers]
    assert [asked(server) for server in servers] == [3, 3, 3] and all(a == b == c for a, b, c in bodies)


def test_changed_weights_reach_every_server(several, chat):
    servers, client = several
    sample_rows(client, chat)
    move(client.model, "shared", 2)
    expected = Generator(client.model, chat).generate(*rows(chat), 1.0)
    assert sample_rows(client, chat) == ids_in(expected) and [asked(server) for server in servers] == [6, 6, 6]


def test_server_that_dies_is_left_out_and_the_others_do_its_work(several, chat, capsys):
    servers, client = several
    expected = sample_rows(client, chat)
    servers[1].faults = [None, "dies"]
    assert sample_rows(client, chat) == expected
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: server_url")]
    assert len(said) == 1 and servers[1].url in said[0] and "going on with 2 of the generation servers" in said[0]
    move(client.model, "shared", 2)
    before = asked(servers[1])
    assert sample_rows(client, chat) == ids_in(Generator(client.model, chat).generate(*rows(chat), 1.0))
    assert asked(servers[1]) == before and not capsys.readouterr().err


def test_death_of_the_last_server_is_a_clear_error(several, chat):
    servers, client = several
    for server in servers:
        server.faults = [None, "dies"]
    with pytest.raises(InputError, match=r"server_url http://127.*after (8|16) attempts"):
        sample_rows(client, chat)


def test_last_server_is_waited_for_longer_than_one_of_several(several, chat, capsys):
    """Its restart takes minutes, and no other can do its work."""
    servers, client = several
    sample_rows(client, chat)
    servers[0].faults = servers[1].faults = [500] * 1000
    sample_rows(client, chat)
    assert capsys.readouterr().err.count("after 8 attempts") == 2
    servers[2].faults = [500] * 1000
    with pytest.raises(InputError, match=r"500.*after 16 attempts"):
        sample_rows(client, chat)


def test_wrong_weights_on_one_of_several_servers_are_refused(several, chat):
    servers, client = several
    servers[2].wrong = "base"
    with pytest.raises(InputError, match=rf"server_url {servers[2].url}.*the base model without the adapter"):
        sample_rows(client, chat)


def test_server_that_is_not_there_at_the_start_is_left_out(changed, base, tmp_path, chat, capsys):
    with start("vllm", base, tmp_path) as server:
        config = changed(backend="vllm", server_url=["http://127.0.0.1:9", server.url], server_folder=str(tmp_path))
        client = open_sampler(config, accelerator_of(config), move(load_backbone(config, {}), "shared", 1), chat)
        assert len(sample_rows(client, chat)) == 9
    assert "warning: server_url http://127.0.0.1:9/v1/models: ConnectError" in capsys.readouterr().err


def test_empty_list_of_servers_is_refused(tmp_path):
    (tmp_path / "c.yaml").write_text("backend: vllm\nserver_url: []\n")
    with pytest.raises(InputError, match=r"c.yaml: key 'backend' is 'vllm', which needs 'server_url'"):
        load_config(tmp_path / "c.yaml")


# --- the end of a turn


@pytest.fixture(scope="module")
def glued() -> Chat:
    """A tokenizer whose tokens can carry text past a stop string, as Qwen's ">\\n\\n" does."""
    tokenizer = new_tokenizer()
    tokenizer.add_tokens(["</answe", "r>\n\n", "r>x"])
    return Chat(tokenizer, "tiny")


def ids_of(chat: Chat, *pieces: str) -> list[int]:
    return [chat.tokenizer.convert_tokens_to_ids(p) for p in pieces]


def test_white_space_glued_to_a_stop_string_stays(glued):
    ids = ids_of(glued, "</answe", "r>\n\n")
    found = cut(glued, [*ids, 30, 31], [-1.0, -2.0, -3.0, -4.0], False, 4)
    assert found.ids == tuple(ids) and found.logprobs == (-1.0, -2.0) and found.finish_reason is Finish.STOP


def test_text_glued_to_a_stop_string_is_cut_and_ids_fit_the_text(glued):
    ids = ids_of(glued, "</answe", "r>x")
    found = cut(glued, [*ids, 30], [-1.0, -2.0, -3.0], False, 3)
    assert glued.decode(list(found.ids)) == "</answer>" and found.finish_reason is Finish.STOP
    assert found.ids[0] == ids[0] and found.logprobs[:2] == (-1.0, -2.0) and not any(found.logprobs[2:])


def test_glued_stop_string_from_a_server_that_misses_it(glued, changed, tmp_path):
    """TGI looks for stop strings at the end of the text only, so that it writes on after "</answer>x"."""
    base = tmp_path / "base"
    chain = [glued.turn_end[0], *ids_of(glued, "</answe", "r>x"), 40, 41, 42, 43]
    prompt = glued.prompt("policy", question="q")
    bigram_model(len(glued.tokenizer), [prompt[-1], *chain[1:]]).save_pretrained(base)
    glued.tokenizer.save_pretrained(base)
    with start("tgi", base, tmp_path / "serving") as server:
        config = changed(
            base_model=str(base), backend="tgi", server_url=server.url, server_folder=str(tmp_path / "serving")
        )
        model = load_backbone(config, {})
        use(model, "shared")
        client = open_sampler(config, accelerator_of(config), model, glued)
        with client.serving("shared"):
            found = client.generate([prompt], [1], [6], 0.0)[0]
    assert Generator(model, glued).generate([prompt], [1], [6], 0.0)[0].ids == found.ids
    assert glued.decode(list(found.ids)) == "</answer>" and found.finish_reason is Finish.STOP


def test_local_turn_ends_where_white_space_is_glued_to_a_stop_string(glued):
    prompt, chain = glued.prompt("policy", question="q"), [*ids_of(glued, "</answe", "r>\n\n"), 40, 41]
    found = Generator(bigram_model(len(glued.tokenizer), [prompt[-1], *chain]), glued).generate(
        [prompt], [1], [4], 0.0
    )[0]
    assert found.ids == tuple(chain[:2]) and found.finish_reason is Finish.STOP


def test_turn_ends_at_the_first_end_of_turn_token(chat):
    eos = next(iter(chat.eos_ids))
    found = cut(chat, [30, eos, 31], [-1.0, -2.0, -3.0], False, 3)
    assert found.ids == (30, eos) and found.finish_reason is Finish.EOS


def test_early_end_at_another_special_token_ends_the_turn(chat):
    """Qwen2.5 has two end tokens, of which the chat template knows one."""
    other = chat.tokenizer.convert_tokens_to_ids("<|user|>")
    assert other not in chat.eos_ids
    assert cut(chat, [30, other], [-1.0, -2.0], True, 5).finish_reason is Finish.EOS


def test_early_end_without_a_reason_is_malformed(chat):
    with pytest.raises(ValueError, match="ended after 2 of 5"):
        cut(chat, [30, 31], [-1.0, -2.0], True, 5)


@given(st.lists(st.integers(0, 410), min_size=1, max_size=40))
def test_cut_keeps_a_beginning_of_any_tokens(glued, ids):
    found = cut(glued, ids, [-1.0] * len(ids), False, len(ids))
    assert len(found.ids) == len(found.logprobs)
    assert glued.decode(list(ids)).startswith(glued.decode(list(found.ids)).rstrip("\ufffd"))


# --- the whole loop, with the shipped base, which sets tasks and judges them


def smallest(config: Config) -> Config:
    """One round at its smallest."""
    tiny = Config()
    sizes = {
        "rounds": 1,
        "pg_prompts": 6,
        "pg_samples": 3,
        "pg_max_steps": 1,
        "verify_samples": 1,
        "verify_threshold": 0.0,
        "ratio_cap": 2.0,
    }
    rest = {
        "grm_max_steps": 1,
        "policy_max_steps": 1,
        "grm_samples": 4,
        "policy_samples": 4,
        "eval_per_hop": 0,
        "eval_judgments": 2,
        "eval_tasks": 0,
        "corpus": tiny.corpus,
        "minibatches": 1,
    }
    limits = {
        "max_turns": tiny.max_turns,
        "max_turn_tokens": tiny.max_turn_tokens,
        "max_episode_tokens": tiny.max_episode_tokens,
    }
    return replace(config, base_model=tiny.base_model, judgments=tiny.judgments, **sizes, **rest, **limits)


def play(run: Path, config: Config) -> dict[str, list[dict]]:
    """The episodes of each phase, every one of which must have trained."""
    prepare(run, config)
    run_rounds(run)
    assert all(trained(run, role) for role in ROLES)
    return episodes_of(run)


def trained(run: Path, role: str) -> bool:
    """Whether the phase took steps, each of which changed the weights and was sampled from the trainer's own."""
    file = run_dir.phase_dir(run, 1, role) / "metrics.jsonl"
    log = [row for _, row in read_jsonl(file)] if file.is_file() else []
    return bool(log) and all(row["grad_norm"] > 0 and row["sampling_logp_difference"] < 1e-3 for row in log)


def trains(run: Path, role: str) -> bool:
    PHASES[role].run_phase(run, 1)
    return trained(run, role)


def episodes_of(run: Path) -> dict[str, list[dict]]:
    return {role: [row for _, row in read_jsonl(run_dir.phase_dir(run, 1, role) / "episodes.jsonl")] for role in ROLES}


def reads_alike(run: Path, chat: Chat) -> bool:
    """Whether TGI, which takes text, reads the contexts of these episodes as the tokens that they are."""
    texts = [row["ids"] for rows in episodes_of(run).values() for row in rows]
    return all(chat.tokenizer(chat.decode(ids))["input_ids"] == ids for ids in texts)


FITTING_SEED = 18
"""With the shipped base of today. To find another one takes minutes."""


@pytest.fixture(scope="module")
def local_run(config, tmp_path_factory) -> tuple[Config, dict[str, list[dict]]]:
    """A seed with which all three phases train on episodes that are the same as text, and what was played with it. A
    seed is given up after its first phase that does not train."""
    tiny = smallest(config)
    chat = Chat(AutoTokenizer.from_pretrained(tiny.path(tiny.base_model)), "tiny")
    for seed in (FITTING_SEED, *range(30)):
        played, run = replace(tiny, seed=seed), tmp_path_factory.mktemp("local") / "run"
        prepare(run, played)
        if all(trains(run, role) for role in ROLES) and reads_alike(run, chat):
            return played, episodes_of(run)
    raise AssertionError("no seed trains all three phases on episodes that are the same as text")


@pytest.fixture(scope="module")
def played(local_run) -> Config:
    return local_run[0]


@pytest.fixture(scope="module")
def locally(local_run) -> dict[str, list[dict]]:
    return local_run[1]


@pytest.mark.parametrize("kind", KINDS)
def test_whole_loop_through_a_server_that_dies_and_comes_back_plays_the_same_episodes(kind, played, locally, tmp_path):
    """The fake servers draw the same tokens as the local generator: any slip of a client, in the weights too, shows in
    ids or rewards. Passing faults are got over; the server that dies in mid-phase ends the run, which goes on when it
    is back."""
    with start(kind, played.path(played.base_model), tmp_path / "serving") as server:
        config = replace(played, backend=kind, server_url=server.url, server_folder=str(tmp_path / "serving"))
        server.faults = [429, "garbage", 500, *[None] * 40, "dies"]
        with pytest.raises(InputError, match=r"server_url http://127.*after 16 attempts"):
            play(tmp_path / "run", config)
        assert server.dead
        server.dead, server.adapters = False, {}  # a new process knows no adapter
        found = play(tmp_path / "run", config)
    for role in ROLES:
        assert [e["ids"] for e in found[role]] == [e["ids"] for e in locally[role]], role
        assert [e["reward"] for e in found[role]] == [e["reward"] for e in locally[role]], role


def test_whole_loop_through_two_servers_of_which_one_dies_plays_the_same_episodes(played, locally, tmp_path, capsys):
    folder, base = tmp_path / "serving", played.path(played.base_model)
    with start("vllm", base, folder) as first, start("vllm", base, folder) as second:
        config = replace(played, backend="vllm", server_url=[first.url, second.url], server_folder=str(folder))
        second.faults = [*[None] * 30, "dies"]
        found = play(tmp_path / "run", config)
        assert second.dead
    said = capsys.readouterr().err.count("going on with 1 of the generation servers")
    assert said == len(ROLES) + 1  # once in each phase, and in the evaluation after them
    for role in ROLES:
        assert [e["ids"] for e in found[role]] == [e["ids"] for e in locally[role]], role
        assert [e["reward"] for e in found[role]] == [e["reward"] for e in locally[role]], role


@pytest.mark.parametrize("fsdp", ["false", "true"])
def test_two_processes_share_servers(changed, base, tmp_path, fsdp):
    """The main process brings each version of the weights once; both check them and sample. With FSDP they share the
    base as well. The second server fails the main process alone, and both leave it out."""
    nothing = {"rounds": 1, "eval_per_hop": 0, "eval_judgments": 0, "eval_tasks": 0, "oracle": None}
    folder = str(tmp_path / "serving")
    with start("vllm", base, tmp_path / "serving") as server, start("vllm", base, tmp_path / "serving") as other:
        other.blind = True
        config = changed(backend="vllm", server_url=[server.url, other.url], server_folder=folder, **nothing)
        (tmp_path / "config.yaml").write_text(dump_config(config))
        launch(
            str(ROOT / "reproduce" / "run.py"),
            "--config",
            str(tmp_path / "config.yaml"),
            "--run",
            str(tmp_path / "run"),
            ACCELERATE_USE_FSDP=fsdp,
        )
        loaded = [body["lora_name"] for path, body in server.seen if path == "/v1/load_lora_adapter"]
        probes = [body["model"] for path, body in server.seen if "prompt_logprobs" in body]
        assert {path for path, _ in other.seen} == {"/v1/load_lora_adapter"}
    assert loaded and len(loaded) == len(set(loaded))
    assert all(probes.count(name) % 2 == 0 for name in loaded) and set(probes) == set(loaded)


# --- merged checkpoints and the sidecar


def test_merged_checkpoint_computes_the_same_and_old_readers_find_what_they_look_for(changed, tmp_path, tokenizer):
    config = changed()
    model = move(load_backbone(config, {}), "shared", 1)
    save_merged(model, "shared", config, tmp_path / "merged")
    plain, ids = AutoModelForCausalLM.from_pretrained(tmp_path / "merged"), torch.tensor([[20, 30, 40]])
    assert torch.allclose(plain(ids).logits, model(ids).logits, atol=1e-4)
    settings = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert (
        settings["rope_theta"] == 10000.0
        and settings["torch_dtype"] == "float32"
        and "quantization_config" not in settings
    )
    assert {"tokenizer.json", "tokenizer_config.json"} <= {f.name for f in (tmp_path / "merged").iterdir()}
    assert not (tmp_path / "merged" / "generation_config.json").exists()


@pytest.mark.parametrize("pair", ["tgi"], indirect=True)
def test_checkpoint_that_was_not_written_whole_is_written_anew(pair, chat, monkeypatch):
    """The trainer is killed while it writes: servers are not told of it, and the next time it is written again."""
    _, client = pair

    def killed(model, name, config, folder):
        save_merged(model, name, config, folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(tgi, "save_merged", killed)
        sample(client, chat)
    assert [path.suffix for path in client.folder.glob("merged-*")] == [".partial"]
    assert not (client.folder / CURRENT).exists()
    sample(client, chat)
    assert list(client.folder.glob("merged-*")) == [client._merged]


def test_sidecar_starts_restarts_and_ends_its_server(tmp_path):
    """The server is a process that writes its checkpoint's name and waits."""
    said, child = (
        tmp_path / "said",
        "import sys, time; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n'); "
        "time.sleep(60 if sys.argv[2] != 'dies' else 0)",
    )
    script = [
        sys.executable,
        ROOT / "asl_min" / "sampling" / "tgi_sidecar.py",
        tmp_path,
        "--",
        sys.executable,
        "-c",
        child,
        said,
        "{}",
    ]
    sidecar = subprocess.Popen([str(part) for part in script], stdout=subprocess.DEVNULL)

    def wait_for(lines: list[str]) -> None:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and (said.read_text().split() if said.exists() else []) != lines:
            time.sleep(0.05)
        assert said.read_text().split() == lines

    try:
        for i, checkpoint in enumerate(("one", "two")):
            (tmp_path / CURRENT).write_text(checkpoint)
            wait_for(["one", "two"][: i + 1])
    finally:
        sidecar.terminate()
    assert sidecar.wait(10) == 0
