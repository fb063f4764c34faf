"""Generation by vLLM's OpenAI-compatible server, started with `--enable-lora`, `--logprobs-mode processed_logprobs` and
VLLM_ALLOW_RUNTIME_LORA_UPDATING=True (see compose.yaml). Without the mode its log-probabilities are those at
temperature 1, which no proof here notices. It takes and returns token ids, and loads adapters while it runs.

A server that was started again knows no adapter, and answers 404 where one is asked for. It then gets the present one
once more, and has to prove it.
"""

from collections.abc import Callable
from threading import Lock
from typing import TypeVar

import httpx2
from accelerate import Accelerator
from peft import PeftModel

from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.protocol import STOP_STRINGS
from asl_min.run.errors import InputError
from asl_min.run.http_client import FIRST_ATTEMPTS, HttpClient, Refused
from asl_min.sampling.sampler import Completion
from asl_min.sampling.server import PROBE_SEED, PROBE_TOKENS, Server

T = TypeVar("T")
PLAIN = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""All of these are sent, since the server takes those left out from the model's generation_config.json."""


class Vllm(Server):
    """A `Sampler`. Raises `InputError` where no server answers."""

    many = True

    def __init__(self, config: Config, accelerator: Accelerator, model: PeftModel, chat: Chat):
        super().__init__(config, accelerator, model, chat)
        self._loading = Lock()
        self.pool.ask_each(lambda http: self._models(http, FIRST_ATTEMPTS))

    def _write(self, name: str, base: bool) -> None:
        if not base:
            self._adapter_folder(name)

    def _load(self, http: HttpClient, name: str, base: bool) -> None:
        if base:
            return
        if self.version not in self._models(http):
            self._publish(http)
        old = self.versions.get(name)
        if old and old in self._models(http):
            self._post(http, "/v1/unload_lora_adapter", {"lora_name": old}, lambda r: r.text)

    def _publish(self, http: HttpClient) -> None:
        adapter = {"lora_name": self.version, "lora_path": str(self.folder / self.version)}
        try:
            self._post(http, "/v1/load_lora_adapter", adapter, lambda r: r.text)
        except Refused:
            if self.version not in self._models(http):  # else it was loaded, but the answer was lost
                raise

    def _publish_again(self, http: HttpClient) -> None:
        """To a server that was started again. The proof is the probe's prompt, of which the trainer's log-probabilities
        are known: a thread must not use the model. Raises `InputError` where it serves other weights."""
        with self._loading:
            if self.version in self._models(http):  # another thread was faster
                return
            self._publish(http)
            context = self._probe_context()
            _, found = self._probe(http, context)
            if not self.proved[self.version].fits(found[: len(context)], self.config.server_tolerance):
                raise InputError(f"{http.where}: the server was started again and does not serve {self.version}")

    def _base_name(self) -> str:
        return self.pool.ask(0, 1, self._models)[0]

    def _models(self, http: HttpClient, attempts: int | None = None) -> list[str]:
        def read(response: httpx2.Response) -> list[str]:
            return [model["id"] for model in response.json()["data"]]

        return http.call("GET", "/v1/models", read=read, attempts=attempts or self.pool.attempts)

    def _post(self, http: HttpClient, path: str, body: dict, read: Callable[[httpx2.Response], T]) -> T:
        return http.call("POST", path, body, read, self.pool.attempts)

    def _body(self, context: list[int], seed: int, room: int, temperature: float) -> dict:
        stop = {
            "stop": STOP_STRINGS,
            "stop_token_ids": sorted(self.chat.eos_ids),
            "include_stop_str_in_output": True,
            "skip_special_tokens": False,
        }
        wanted = {"logprobs": 0, "return_token_ids": True, "max_tokens": room, "temperature": temperature, "seed": seed}
        return {"model": self.version, "prompt": context} | wanted | PLAIN | stop

    def _sample(self, http: HttpClient, context: list[int], seed: int, room: int, temperature: float) -> Completion:
        def read(response: httpx2.Response) -> Completion:
            choice = response.json()["choices"][0]
            logprobs, closed = choice["logprobs"]["token_logprobs"], choice["finish_reason"] == "stop"
            return self._read_tokens(choice["token_ids"], logprobs, closed, room)

        body = self._body(context, seed, room, temperature)
        try:
            return self._post(http, "/v1/completions", body, read)
        except Refused as error:
            if error.status != 404 or self.version not in self.proved:
                raise
        self._publish_again(http)
        return self._post(http, "/v1/completions", body, read)

    def _probe(self, http: HttpClient, context: list[int]) -> tuple[list[int], list[float | None]]:
        """Ids of a context and of tokens sampled after it, with the server's log-probabilities, both [tokens]."""

        def read(response: httpx2.Response) -> tuple[list[int], list[float | None]]:
            choice = response.json()["choices"][0]
            places = zip(context, choice["prompt_logprobs"], strict=True)
            prompt = [place[str(token)]["logprob"] if place else None for token, place in places]
            return context + choice["token_ids"], prompt + choice["logprobs"]["token_logprobs"]

        body = self._body(context, PROBE_SEED, PROBE_TOKENS, 1.0) | {"stop": [], "prompt_logprobs": 0}
        return self._post(http, "/v1/completions", body, read)
