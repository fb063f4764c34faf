"""Generation by Text Generation Inference (TGI), through huggingface_hub's `InferenceClient`.

LoRA on TGI is mostly without effect for Qwen2, so it gets a merged checkpoint and is restarted by `tgi_sidecar.py`. It
takes text: contexts that it reads as other tokens than ours are counted (`retokenized`).

`InferenceClient` builds the requests and parses the answers; our `HttpClient` sends them. The client's own HTTP refuses
every server when HF_HUB_OFFLINE is set, sends the user's Hub token, limits each read but not the whole answer, does not
retry, and shares one pool of connections with all downloads.
"""

import hashlib
import shutil
import sys
import time
from pathlib import Path

from accelerate import Accelerator
from huggingface_hub import InferenceClient, TextGenerationOutputDetails
from peft import PeftModel

from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.model import save_merged
from asl_min.protocol import STOP_STRINGS
from asl_min.run.durable import new_folder, write_text
from asl_min.run.errors import InputError
from asl_min.run.http_client import HttpClient
from asl_min.sampling.sampler import Completion
from asl_min.sampling.server import PROBE_SEED, PROBE_TOKENS, Server
from asl_min.sampling.tgi_sidecar import CURRENT, current

RESTART_SECONDS = 900.0


class TgiClient(InferenceClient):
    """`InferenceClient` over our own HTTP, one attempt a call."""

    def __init__(self, http: HttpClient):
        super().__init__(str(http.http.base_url), token="none")
        self.http = http

    def _inner_post(self, request_parameters, *, stream: bool = False) -> bytes:
        return self.http.send("POST", "/generate", request_parameters.json).content


class Tgi(Server):
    """A `Sampler`. Raises `InputError` where each role has an adapter of its own."""

    many = False

    def __init__(self, config: Config, accelerator: Accelerator, model: PeftModel, chat: Chat):
        if config.adapters != "shared":
            raise InputError(
                f"adapters: {config.adapters!r}: TGI serves one merged checkpoint, so backend 'tgi' needs 'shared'"
            )
        super().__init__(config, accelerator, model, chat)
        self.clients, self.retokenized = {http: TgiClient(http) for http in self.pool.alive}, 0

    @property
    def _merged(self) -> Path:
        """Where the present weights are as one checkpoint."""
        return self.folder / f"merged-{self.version}"

    def _write(self, name: str, base: bool) -> None:
        """A merged checkpoint, which the servers now restart on. Those of the adapter's earlier versions are removed,
        but for the one that is still served."""
        for old in self.folder.glob(f"merged-{name}-*"):
            if not base and str(old) not in (current(self.folder), str(self._merged)):
                shutil.rmtree(old, ignore_errors=True)
        if not self._merged.is_dir():
            with new_folder(self._merged) as partial:
                save_merged(self.model, None if base else name, self.config, partial)
        if not base:
            self._adapter_folder(name)
        write_text(self.folder / CURRENT, str(self._merged))

    def _base_name(self) -> str:
        """Of this base, since other runs' may lie in the same folder."""
        return f"base-{hashlib.sha256(str(self.config.base_model).encode()).hexdigest()[:8]}"

    def _load(self, http: HttpClient, name: str, base: bool) -> None:
        """Return when the restarted server says that it serves the checkpoint."""
        deadline, fault = time.monotonic() + RESTART_SECONDS, ""
        while time.monotonic() < deadline:
            try:
                served = http.call("GET", "/info", read=lambda r: r.json()["model_id"], attempts=1)
                if served == str(self._merged):
                    return
                fault = f"it still serves {served}"
            except InputError as error:
                fault = str(error)
            time.sleep(0.2)
        raise InputError(
            f"{http.where}: no restart on {self._merged} within {RESTART_SECONDS:g} s "
            f"(does asl_min/sampling/tgi_sidecar.py run there?): {fault}"
        )

    def _ask(
        self, http: HttpClient, context: list[int], seed: int, room: int, temperature: float, **more
    ) -> TextGenerationOutputDetails:
        """One attempt. A greedy sample is asked for by leaving the temperature out."""
        draw = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        limits = {"stop": STOP_STRINGS, "max_new_tokens": room, "seed": seed % 2**63 or 1}
        wanted = {"details": True, "return_full_text": False} | draw | limits | more
        return self.clients[http].text_generation(self.chat.decode(context), **wanted).details

    def _sample(self, http: HttpClient, context: list[int], seed: int, room: int, temperature: float) -> Completion:
        self._count_retokenized(context)

        def ask() -> Completion:
            details = self._ask(http, context, seed, room, temperature)
            ids, logprobs = [t.id for t in details.tokens], [t.logprob for t in details.tokens]
            return self._read_tokens(ids, logprobs, details.finish_reason != "length", room)

        return http.retry("/generate", ask, self.pool.attempts)

    def _probe(self, http: HttpClient, context: list[int]) -> tuple[list[int], list[float | None]]:
        """Ids of a context and of tokens sampled after it, with the server's log-probabilities, both [tokens]. TGI
        gives those of the context only under --enable-prefill-logprobs, which costs it much memory."""
        self._count_retokenized(context)

        def ask() -> tuple[list[int], list[float | None]]:
            details = self._ask(http, context, PROBE_SEED, PROBE_TOKENS, 1.0, stop=[], decoder_input_details=True)
            prompt = [t.logprob for t in details.prefill]
            prompt = prompt if [t.id for t in details.prefill] == context else [None] * len(context)
            return context + [t.id for t in details.tokens], prompt + [t.logprob for t in details.tokens]

        return http.retry("/generate", ask, self.pool.attempts)

    def _count_retokenized(self, context: list[int]) -> None:
        if self.chat.tokenizer(self.chat.decode(context))["input_ids"] == context:
            return
        self.retokenized += 1
        if self.retokenized == 1:
            print(
                "warning: TGI reads some contexts as other tokens than were sampled (text is all it takes); "
                "see sampling_logp_difference",
                file=sys.stderr,
            )
