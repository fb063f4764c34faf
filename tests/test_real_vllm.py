"""Our client against a real vLLM server on the CPU: `make test-servers`. Deselected elsewhere, since vLLM's environment
takes 4 GB.

The shipped tiny base plays all roles at once. SmolLM2-135M is what `make real` made of it: with the cold start where
that is there, else without.
"""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ROOT, move

from asl_min.chat import Chat
from asl_min.config import Config, load_config
from asl_min.corpus import read_jsonl
from asl_min.model import ROLES, load_backbone, load_tokenizer
from asl_min.phase import accelerator_of
from asl_min.rounds import run_rounds
from asl_min.run import http_client, run_dir
from asl_min.run.errors import InputError
from asl_min.run.inputs import prepare
from asl_min.sampling.server import logprobs_of, mean_gap
from asl_min.sampling.vllm import Vllm
from reproduce.bench.vllm_server import VllmServer, vllm_server

pytestmark = pytest.mark.servers
ROUND = {
    "rounds": 1,
    "pg_max_steps": 1,
    "attempts": 2,
    "verify_samples": 1,
    "verify_threshold": 0.0,
    "grm_samples": 2,
    "grm_max_steps": 1,
    "policy_samples": 4,
    "max_turns": 3,
    "eval_per_hop": 1,
    "eval_greedy": False,
    "eval_judgments": 2,
    "eval_tasks": 0,
    "generation_batch_size": 16,
    "ratio_cap": 2.0,
    "threads": 1,
}
SIZES = {
    "tiny": {"round_rollouts": 96, "pg_prompts": 3, "pg_samples": 4, "grm_prompts": 4, "policy_prompts": 2},
    "smollm2-135m": {"round_rollouts": 48, "pg_prompts": 2, "pg_samples": 2, "grm_prompts": 2, "policy_prompts": 1}
    | {"top_k": 1, "max_turn_tokens": 64, "max_episode_tokens": 512, "lora_rank": 8},
}
"""Of SmolLM2 as small as can be: one core reads some 10 tokens a second through an adapter."""


def config_of(name: str, folder: Path, url: str = "http://unknown") -> Config:
    cold, values = "build/real/smollm2-135m-cold", ROUND | SIZES[name]
    if name == "smollm2-135m":
        values |= {"base_model": cold if (ROOT / cold).is_dir() else "build/real/smollm2-135m"}
    served = {"backend": "vllm", "server_url": url, "server_folder": str(folder / "serving")}
    return load_config(ROOT / "configs" / f"{name}.yaml", **values, **served)


@pytest.fixture(scope="module", params=SIZES)
def served(request, tmp_path_factory) -> Iterator[tuple[VllmServer, Config]]:
    """A server, and a config that has its address."""
    folder = tmp_path_factory.mktemp(request.param)
    with vllm_server(config_of(request.param, folder), folder / "vllm.log") as server:
        yield server, config_of(request.param, folder, server.url)


@pytest.fixture
def client(served) -> Vllm:
    """A client whose adapter of the policy does something."""
    config = served[1]
    model = moved(load_backbone(config, {}), 1)
    return Vllm(config, accelerator_of(config), model, Chat(load_tokenizer(config), config.prompts))


def moved(model, seed: int):
    """By a small step of the second factor, which is 0 in a new adapter."""
    return move(model, "policy", seed, part="lora_B", size=0.02)


def sample(client: Vllm, rows: int = 4):
    contexts = [client.chat.prompt("policy", question=f"What is the capital of {name}?") for name in ("Peru", "Chad")]
    contexts = [context for context in contexts for _ in range(rows // 2)]
    with client.serving("policy"):
        return contexts, client.generate(contexts, list(range(rows)), [16] * rows, 1.0)


def test_served_adapter_is_proved_and_its_samples_have_the_trainers_probabilities(client):
    for context, found in zip(*sample(client), strict=True):
        own = logprobs_of(client.model, [*context, *found.ids])[len(context) :]
        assert mean_gap(own, found.logprobs) < 1e-3


def test_same_seeds_give_the_same_samples(client):
    first, again = sample(client)[1], sample(client)[1]
    assert [c.ids for c in first] == [c.ids for c in again]


@pytest.mark.parametrize(
    ("wrong", "seed"), [("an older adapter, policy-", 2), ("the base model without the adapter", 3)]
)
def test_wrong_adapter_published_on_purpose_is_refused_and_named(client, monkeypatch, wrong, seed):
    sample(client)
    older = client.folder / client.version
    moved(client.model, seed)

    def publish_wrong(name: str, base: bool) -> None:
        shutil.copytree(older, client.folder / client.version)
        if wrong.startswith("the base"):
            silence(client.folder / client.version)

    monkeypatch.setattr(client, "_write", publish_wrong)
    with pytest.raises(InputError, match=rf"server_url http.*does not serve policy-.*it seems to serve {wrong}"):
        sample(client)


def silence(folder: Path) -> None:
    """Make an adapter that changes nothing of it."""
    from safetensors.torch import load_file, save_file

    file = folder / "adapter_model.safetensors"
    save_file({key: value * (0 if "lora_B" in key else 1) for key, value in load_file(file).items()}, file)


def test_whole_round_through_a_server_that_is_killed_and_started_again(served, tmp_path):
    """In the first phase, in the middle of a batch; nobody starts the run again. Adapters are published while it
    runs."""
    server, config = served
    phase = run_dir.phase_dir(tmp_path / "run", 1, ROLES[0])
    again = threading.Thread(target=kill_in, args=(phase, server), daemon=True)
    again.start()
    prepare(tmp_path / "run", config)
    summary = run_rounds(tmp_path / "run")
    again.join()
    assert [row["round"] for row in summary["rounds"]] == [0, 1]
    logs = [run_dir.phase_dir(tmp_path / "run", 1, role) / "metrics.jsonl" for role in ROLES]
    rows = [row for log in logs if log.is_file() for _, row in read_jsonl(log)]
    assert rows and all(row["sampling_logp_difference"] < 1e-2 for row in rows)
    assert said(server, 'POST /v1/completions HTTP/1.1" 404')  # the new process knows no adapter
    updates = sum(row["grad_norm"] > 0 for row in rows)
    assert said(server, 'POST /v1/load_lora_adapter HTTP/1.1" 200') > updates >= config.base_model.startswith("asl_min")


def said(server: VllmServer, text: str) -> int:
    return server.log.read_text(errors="replace").count(text)


def kill_in(phase: Path, server: VllmServer) -> None:
    """Kill the server while it writes the phase's first completions, and start it again."""
    while not phase.is_dir():
        time.sleep(0.2)
    before = said(server, "POST /v1/completions")
    while said(server, "POST /v1/completions") <= before:  # the first one is the probe
        time.sleep(0.01)
    server.kill()
    server.start()


def test_server_that_stays_away_is_a_clear_error(client, served, monkeypatch):
    monkeypatch.setattr(http_client, "LONGEST_WAIT", 0.05)
    sample(client)
    served[0].kill()
    with pytest.raises(InputError, match=r"server_url http://127.0.0.1:\d+/v1/completions: ConnectError.*after 16"):
        sample(client)
