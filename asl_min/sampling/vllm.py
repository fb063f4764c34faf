"""Generation by vLLM's OpenAI-compatible server, started with `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True
(see compose.yaml). It takes and returns token ids, and loads adapters while it runs.
"""

import httpx2
from accelerate import Accelerator
from peft import PeftModel

from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.protocol import STOP_STRINGS
from asl_min.run.http_client import ATTEMPTS, FIRST_ATTEMPTS, HttpClient
from asl_min.sampling.sampler import Completion
from asl_min.sampling.server import PROBE_SEED, PROBE_TOKENS, Server

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
        self.pool.ask_each(lambda http: self._models(http, FIRST_ATTEMPTS))

    def _write(self, name: str, base: bool) -> None:
        if not base:
            self._adapter_folder(name)

    def _load(self, http: HttpClient, name: str, base: bool) -> None:
        if base:
            return
        adapter = {"lora_name": self.version, "lora_path": str(self.folder / self.version)}
        if self.version not in self._models(http):
            http.call("POST", "/v1/load_lora_adapter", adapter, read=lambda r: r.text)
        old = self.versions.get(name)
        if old and old in self._models(http):
            http.call("POST", "/v1/unload_lora_adapter", {"lora_name": old}, read=lambda r: r.text)

    def _base_name(self) -> str:
        return self.pool.ask(0, 1, self._models)[0]

    def _models(self, http: HttpClient, attempts: int = ATTEMPTS) -> list[str]:
        def read(response: httpx2.Response) -> list[str]:
            return [model["id"] for model in response.json()["data"]]

        return http.call("GET", "/v1/models", read=read, attempts=attempts)

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

        return http.call("POST", "/v1/completions", self._body(context, seed, room, temperature), read)

    def _probe(self, http: HttpClient, context: list[int]) -> tuple[list[int], list[float | None]]:
        """Ids of a context and of tokens sampled after it, with the server's log-probabilities, both [tokens]."""

        def read(response: httpx2.Response) -> tuple[list[int], list[float | None]]:
            choice = response.json()["choices"][0]
            places = zip(context, choice["prompt_logprobs"], strict=True)
            prompt = [place[str(token)]["logprob"] if place else None for token, place in places]
            return context + choice["token_ids"], prompt + choice["logprobs"]["token_logprobs"]

        body = self._body(context, PROBE_SEED, PROBE_TOKENS, 1.0) | {"stop": [], "prompt_logprobs": 0}
        return http.call("POST", "/v1/completions", body, read)
