"""Generation by a server, vLLM or Text Generation Inference (TGI), with the interface of `generate.Generator`.

Before sampling, `published` brings the adapter's present weights to the server, then proves that it serves them: the
server's own log-probabilities of a fixed prompt and of tokens that it samples after it must be the trainer's, or the
run ends with an error that names the weights which the server seems to serve. Every version of the weights has its own
name (a digest of its values), so that no cache of a server can mix two.

vLLM takes and returns token ids and loads adapters while it runs. TGI takes text, and LoRA on it is mostly without
effect for Qwen2, so it gets a merged checkpoint and is restarted by `tgi_sidecar.py`; contexts that TGI reads as other
tokens than ours are counted (`retokenized`). Samples are drawn by the server: they depend on the seed, but not in the
way of the local generator.
"""

import hashlib
import math
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import torch
from accelerate import Accelerator
from peft import PeftModel

from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.model import hidden_states, logits_of, save_adapter, save_merged, use
from asl_min.protocol import STOP_STRINGS
from asl_min.run.durable import write_text
from asl_min.run.errors import InputError
from asl_min.run.http_client import HttpClient
from asl_min.sampling.generate import Completion, Ended, turn_end
from asl_min.sampling.tgi_sidecar import CURRENT

MAX_REQUESTS = 128  # under way at once, over all processes: TGI's own limit by default
PROBE_QUESTION, PROBE_SEED, PROBE_TOKENS = (
    "Which rivers flow through the largest city of the country, and when was it founded?",
    20251014,
    32,
)
NEAR = 1e-3  # nats: a gap that rounding explains
RESTART_SECONDS = 900.0
Sampled = tuple[list[int], list[float], bool]
"""Token ids, their log-probabilities, and whether the server ended them before the limit."""


def connect(config: Config, accelerator: Accelerator, model: PeftModel, chat: Chat) -> "Server":
    """The client of `config.backend`. Raises `InputError` where the two do not fit."""
    if config.backend == "tgi" and config.adapters != "shared":
        raise InputError(
            f"adapters: {config.adapters!r}: TGI serves one merged checkpoint, so backend 'tgi' needs 'shared'"
        )
    return {"vllm": Vllm, "tgi": Tgi}[config.backend](config, accelerator, model, chat)


class Server:
    """What both clients share. A subclass sends one request (`_sample`, `_probe`) and brings weights to its server
    (`_publish`)."""

    many: bool
    """Whether the server can hold several weights at once."""

    def __init__(self, config: Config, accelerator: Accelerator, model: PeftModel, chat: Chat):
        self.config, self.accelerator, self.model, self.chat = config, accelerator, model, chat
        self.requests = max(min(config.generation_batch_size, MAX_REQUESTS) // accelerator.num_processes, 1)
        self.http = HttpClient(config.server_url, "server_url", self.requests)
        self.folder = Path(config.server_folder).absolute()
        self.versions: dict[str, str] = {}
        self.version = ""
        self.retokenized = 0

    def forget(self) -> None:
        """Nothing is kept here between turns; the server has a prefix cache of its own."""

    def generate(
        self,
        contexts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        max_new: Sequence[int],
        temperature: float,
        known: Sequence[int] | None = None,
    ) -> list[Completion]:
        """As `Generator.generate`; `known` makes no difference. Raises `InputError` when the server fails for good."""

        def one(job: tuple[Sequence[int], int, int]) -> Completion:
            context, seed, room = job
            return self._sample(list(context), seed, room, temperature)

        pool = ThreadPoolExecutor(self.requests)
        try:
            return list(pool.map(one, zip(contexts, seeds, max_new, strict=True)))
        finally:
            pool.shutdown(cancel_futures=True)  # after a fault for good, the requests that still wait are not sent

    @contextmanager
    def published(self, name: str, base: bool = False) -> Iterator[None]:
        """Inside, the server serves the present weights of an adapter, which must be the active one, or the base
        without any."""
        key = "base" if base else name
        self.version = self._base_name() if base else f"{name}-{digest(self.model, name)}"
        if self.versions.get(key) != self.version:
            if self.accelerator.is_main_process:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._publish(name, base)
            self.accelerator.wait_for_everyone()
            self._check_weights(name, base)
            self.versions = (self.versions if self.many else {}) | {key: self.version}
        yield

    def _check_weights(self, name: str, base: bool) -> None:
        """Raises `InputError` unless the server's log-probabilities are the trainer's. The base being much nearer is
        refused as well."""
        ids, found = self._probe(self.chat.prompt("policy", question=PROBE_QUESTION))
        gap = mean_gap(self.model, ids, found)
        with self.model.disable_adapter():
            gap_of_base = mean_gap(self.model, ids, found)
        gap, gaps = (gap_of_base, {}) if base else (gap, {"the base model without the adapter": gap_of_base})
        tolerance = self.config.server_tolerance
        if gap <= NEAR or (gap <= tolerance and (base or gap_of_base > gap / 2)):
            return
        gaps |= {f"an older adapter, {path.name}": self._gap_of(path, name, ids, found) for path in self._older(name)}
        nearest = min(gaps, key=gaps.get, default="")
        serves = (
            nearest if nearest and gaps[nearest] <= max(tolerance, NEAR) and gaps[nearest] < gap else "unknown weights"
        )
        gaps_text = ", ".join(f"{k}: {v:.3g}" for k, v in gaps.items())
        raise InputError(
            f"{self.http.where}: the server does not serve {self.version}: its log-probabilities of a fixed prompt are off by {gap:.3g} nats a token "
            f"(server_tolerance {tolerance:g}); it seems to serve {serves} ({gaps_text})"
        )

    def _older(self, name: str) -> list[Path]:
        found = [
            p for p in self.folder.glob(f"{name}-*") if (p / "adapter_config.json").is_file() and p.name != self.version
        ]
        return sorted(found, key=lambda p: p.stat().st_mtime, reverse=True)[:4]

    def _gap_of(self, path: Path, name: str, ids: list[int], found: list[float | None]) -> float:
        self.model.load_adapter(path, adapter_name="suspect")
        use(self.model, "suspect")
        try:
            return mean_gap(self.model, ids, found)
        finally:
            use(self.model, name)
            self.model.delete_adapter("suspect")

    def _adapter_folder(self, name: str) -> Path:
        """The present adapter in a folder that the server sees too, written whole or not at all; the older ones are
        few."""
        folder, temporary = self.folder / self.version, self.folder / f".{self.version}"
        shutil.rmtree(temporary, ignore_errors=True)
        save_adapter(self.model, name, temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
        for old in self._older(name)[2:]:
            shutil.rmtree(old, ignore_errors=True)
        return folder

    def _read_tokens(self, ids: list[int], logprobs: list[float], closed: bool, room: int) -> Completion:
        """What a server returned as tokens, cut at the end of the turn. Raises `ValueError` where it cannot be true."""
        if (
            len(ids) != len(logprobs)
            or not 0 < len(ids) <= room
            or not all(isinstance(i, int) and 0 <= i < self.model.config.vocab_size for i in ids)
        ):
            raise ValueError(
                f"{len(ids)} ids and {len(logprobs)} log-probabilities for at most {room} tokens, or ids outside the vocabulary"
            )
        if not all(isinstance(x, float | int) and math.isfinite(x) and x < NEAR for x in logprobs):
            raise ValueError("a log-probability is missing, positive or not finite")
        return cut(self.chat, ids, logprobs, closed, room)


class Vllm(Server):
    """vLLM's OpenAI-compatible server, started with `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True (see
    compose.yaml)."""

    many = True

    def _publish(self, name: str, base: bool) -> None:
        if base:
            return
        adapter = {"lora_name": self.version, "lora_path": str(self._adapter_folder(name))}
        if self.version not in self._models():
            self.http.call("POST", "/v1/load_lora_adapter", adapter, read=lambda r: r.text)
        old = self.versions.get(name)
        if old and old in self._models():
            self.http.call("POST", "/v1/unload_lora_adapter", {"lora_name": old}, read=lambda r: r.text)

    def _base_name(self) -> str:
        return self._models()[0]

    def _models(self) -> list[str]:
        return self.http.call("GET", "/v1/models", read=lambda r: [model["id"] for model in r.json()["data"]])

    def _body(self, context: list[int], seed: int, room: int, temperature: float) -> dict:
        """All sampling parameters are sent: the server's defaults are those of the model's generation_config.json."""
        plain = {
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
        }
        stop = {
            "stop": STOP_STRINGS,
            "stop_token_ids": sorted(self.chat.eos_ids),
            "include_stop_str_in_output": True,
            "skip_special_tokens": False,
        }
        wanted = {"logprobs": 0, "return_token_ids": True, "max_tokens": room, "temperature": temperature, "seed": seed}
        return {"model": self.version, "prompt": context} | wanted | plain | stop

    def _sample(self, context: list[int], seed: int, room: int, temperature: float) -> Completion:
        def read(response: httpx2.Response) -> Completion:
            choice = response.json()["choices"][0]
            return self._read_tokens(
                choice["token_ids"], choice["logprobs"]["token_logprobs"], choice["finish_reason"] == "stop", room
            )

        return self.http.call("POST", "/v1/completions", self._body(context, seed, room, temperature), read)

    def _probe(self, context: list[int]) -> tuple[list[int], list[float | None]]:
        def read(response: httpx2.Response) -> tuple[list[int], list[float | None]]:
            choice = response.json()["choices"][0]
            prompt = [
                place[str(token)]["logprob"] if place else None
                for token, place in zip(context, choice["prompt_logprobs"], strict=True)
            ]
            return context + choice["token_ids"], prompt + choice["logprobs"]["token_logprobs"]

        body = self._body(context, PROBE_SEED, PROBE_TOKENS, 1.0) | {"stop": [], "prompt_logprobs": 0}
        return self.http.call("POST", "/v1/completions", body, read)


class Tgi(Server):
    """TGI, run by `tgi_sidecar.py`, which restarts it on each new merged checkpoint."""

    many = False

    def _publish(self, name: str, base: bool) -> None:
        """Bring a merged checkpoint to the server; those of the adapter's earlier versions are removed after it."""
        folder = self.folder / f"merged-{self.version}"
        if not (folder / "config.json").is_file():
            save_merged(self.model, None if base else name, self.config, folder)
        if not base:
            self._adapter_folder(name)
        write_text(self.folder / CURRENT, str(folder))
        self._wait_for(folder)
        for old in self.folder.glob(f"merged-{name}-*"):
            if not base and old != folder:
                shutil.rmtree(old, ignore_errors=True)

    def _base_name(self) -> str:
        return "base"

    def _wait_for(self, folder: Path) -> None:
        """Until the restarted server says that it serves the folder."""
        deadline, fault = time.monotonic() + RESTART_SECONDS, ""
        while time.monotonic() < deadline:
            try:
                served = self.http.call("GET", "/info", read=lambda r: r.json()["model_id"], attempts=1)
                if served == str(folder):
                    return
                fault = f"it still serves {served}"
            except InputError as error:
                fault = str(error)
            time.sleep(0.2)
        raise InputError(
            f"{self.http.where}: no restart on {folder} within {RESTART_SECONDS:g} s (does asl_min/sampling/tgi_sidecar.py run there?): {fault}"
        )

    def _body(self, context: list[int], seed: int, room: int, temperature: float) -> dict:
        text = self.chat.decode(context)
        if self.chat.tokenizer(text)["input_ids"] != context:
            self.retokenized += 1
            if self.retokenized == 1:
                print(
                    "warning: TGI reads some contexts as other tokens than were sampled (text is all it takes); see sampling_logp_difference",
                    file=sys.stderr,
                )
        draw = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        rest = {
            "stop": STOP_STRINGS,
            "seed": seed % 2**63 or 1,
            "max_new_tokens": room,
            "details": True,
            "return_full_text": False,
        }
        return {"inputs": text, "parameters": draw | rest}

    def _sample(self, context: list[int], seed: int, room: int, temperature: float) -> Completion:
        def read(response: httpx2.Response) -> Completion:
            details = response.json()["details"]
            ids, logprobs = [t["id"] for t in details["tokens"]], [t["logprob"] for t in details["tokens"]]
            return self._read_tokens(ids, logprobs, details["finish_reason"] != "length", room)

        return self.http.call("POST", "/generate", self._body(context, seed, room, temperature), read)

    def _probe(self, context: list[int]) -> tuple[list[int], list[float | None]]:
        def read(response: httpx2.Response) -> tuple[list[int], list[float | None]]:
            details = response.json()["details"]
            prompt = [
                t["logprob"] for t in details["prefill"]
            ]  # empty unless TGI runs with --enable-prefill-logprobs, which costs it much memory
            prompt = prompt if [t["id"] for t in details["prefill"]] == context else [None] * len(context)
            return context + [t["id"] for t in details["tokens"]], prompt + [t["logprob"] for t in details["tokens"]]

        body = self._body(context, PROBE_SEED, PROBE_TOKENS, 1.0)
        body["parameters"] |= {"stop": [], "decoder_input_details": True}
        return self.http.call("POST", "/generate", body, read)


def cut(chat: Chat, ids: list[int], logprobs: list[float], closed: bool, room: int) -> Completion:
    """The tokens up to the first end-of-turn token or stop string, as `turn_end` says. An early end at another special
    token, such as Qwen's <|endoftext|>, ends the turn too. Raises `ValueError` when the server ended early without any
    of these."""
    for n in range(1, len(ids) + 1):
        if end := turn_end(chat, ids[:n]):
            reason, last = end
            return Completion((*ids[: n - 1], *last), (*logprobs[:n], *[0.0] * (len(last) - 1)), reason)
    if closed and ids[-1] in chat.tokenizer.all_special_ids:
        return Completion(tuple(ids), tuple(logprobs), Ended.EOS)
    if closed or len(ids) < room:
        raise ValueError(f"ended after {len(ids)} of {room} tokens without an end-of-turn token or stop string")
    return Completion(tuple(ids), tuple(logprobs), Ended.LENGTH)


@torch.inference_mode()
def mean_gap(model: PeftModel, ids: list[int], logprobs: list[float | None]) -> float:
    """Mean absolute difference, nats a token, between given log-probabilities of `ids` and the model's own; None is
    left out."""
    hidden = hidden_states(model, torch.tensor([ids], device=model.device), use_cache=False)[0, :-1]
    own = (
        logits_of(model, hidden)
        .log_softmax(-1)
        .gather(-1, torch.tensor(ids[1:], device=model.device)[:, None])[:, 0]
        .tolist()
    )
    gaps = [abs(a - b) for a, b in zip(own, logprobs[1:], strict=True) if b is not None]
    return sum(gaps) / len(gaps) if gaps else math.inf


def digest(model: PeftModel, name: str) -> str:
    """12 hex digits that tell one state of an adapter from another."""
    found = hashlib.blake2b(digest_size=6)
    for key, parameter in model.named_parameters():
        if f".{name}." in key:
            found.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy())
    return found.hexdigest()
