"""Local servers that speak the published protocols of vLLM and TGI over a small model, which they really run. Faults
can be ordered.

`faults`: what the next requests for text meet: a status, "slow", "drip" (a byte at a time), "truncated", "garbage",
"dies" (no answer any more, until `dead` is unset) or None. `wrong`: which weights are served instead of those asked
for: "base" (an adapter without effect) or "first" (never a newer one). `blind`: vLLM sees no adapter's folder. `drop`:
the path of which the next request is done, but its answer cut off.
"""

import json
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from asl_min.sampling.generate import sample
from asl_min.sampling.tgi_sidecar import CURRENT

SLOW_SECONDS = 1.0
DRIP_SECONDS = 0.02
LOADING = threading.Lock()
"""transformers loads one model at a time in a process; two threads lose weights."""


@dataclass(eq=False)
class Job:
    """One completion to be written."""

    model: torch.nn.Module
    ids: list[int]
    room: int
    temperature: float
    uniforms: np.ndarray
    ends: Callable[[list[int]], bool]
    written: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stopped: bool = False
    done: threading.Event = field(default_factory=threading.Event)


class ModelServer(ThreadingHTTPServer):
    """One model behind a lock. `seen` holds the bodies of all POST requests as (path, body)."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, base: Path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.base, self.lock = base, threading.Lock()
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.faults: list[int | str | None] = []
        self.dead = False
        self.wrong: str | None = None
        self.drop: str | None = None
        self.seen: list[tuple[str, dict]] = []
        self.eos = self.tokenizer.eos_token_id
        self.jobs: Queue[Job | None] = Queue()
        self.closed = threading.Event()
        threading.Thread(target=self._work, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address) -> None:
        """A client that has gone away is part of the tests."""

    def write(
        self, model, ids: list[int], room: int, temperature: float, seed: int, ends: Callable[[list[int]], bool]
    ) -> tuple[list[int], list[float], bool]:
        """Tokens sampled as the local generator samples them, until `ends` says so of those written; with
        log-probabilities. Requests that wait together are run together."""
        job = Job(model, ids, room, temperature, np.random.Generator(np.random.Philox(key=seed)).random(room), ends)
        self.jobs.put(job)
        job.done.wait()
        return job.written, job.logprobs, job.stopped

    def _work(self) -> None:
        while (first := self.jobs.get()) is not None:
            time.sleep(0.005)
            waiting = [first, *(job for job in [self.jobs.get() for _ in range(self.jobs.qsize())] if job)]
            for model, temperature in {(job.model, job.temperature) for job in waiting}:
                self._run(
                    [job for job in waiting if job.model is model and job.temperature == temperature],
                    model,
                    temperature,
                )

    @torch.inference_mode()
    def _run(self, jobs: list["Job"], model, temperature: float) -> None:
        """One batch, padded on the left; RoPE does not mind that positions start later."""
        width = max(len(job.ids) for job in jobs)
        new = torch.tensor([[0] * (width - len(job.ids)) + job.ids for job in jobs])
        seen, past, running = (
            torch.tensor([[i >= width - len(job.ids) for i in range(width)] for job in jobs]).long(),
            None,
            set(jobs),
        )
        for step in range(max(job.room for job in jobs)):
            out = model(input_ids=new, attention_mask=seen, past_key_values=past, use_cache=True)
            uniforms = torch.tensor([job.uniforms[min(step, job.room - 1)] for job in jobs])
            tokens, logprobs = sample(out.logits[:, -1], torch.arange(len(uniforms)), uniforms, temperature)
            past, new, seen = (
                out.past_key_values,
                tokens[:, None],
                torch.cat([seen, torch.ones(len(jobs), 1, dtype=torch.long)], 1),
            )
            for job, token, logprob in zip(jobs, tokens.tolist(), logprobs.tolist(), strict=True):
                if job in running:
                    job.written.append(token)
                    job.logprobs.append(logprob)
                    job.stopped = job.ends(job.written)
                    if job.stopped or len(job.written) == job.room:
                        running.remove(job)
                        job.done.set()
            if not running:
                return

    @torch.inference_mode()
    def score(self, model, ids: list[int]) -> list[float]:
        logprobs = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        return logprobs.gather(-1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()

    def load(self, folder: Path, adapter: Path | None = None):
        with LOADING:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            return PeftModel.from_pretrained(model, adapter).merge_and_unload() if adapter else model


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(*self.server.get(self.path))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, body))
        fault = (
            self.server.faults.pop(0) if self.server.faults and self.path in ("/generate", "/v1/completions") else None
        )
        if isinstance(fault, int):
            return self._answer(fault, {"error": "Model is overloaded", "error_type": "overloaded"})
        if fault == "dies":
            self.server.dead = True
        if fault == "garbage":
            return self._answer(200, {"details": {"tokens": [{"id": "x"}]}, "choices": []})
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        dropped = self.server.drop == self.path
        self.server.drop = None if dropped else self.server.drop
        cut = dropped or fault == "truncated"
        self._answer(*self.server.post(self.path, body), cut=cut, drip=fault == "drip")

    def _answer(self, status: int, answer: dict | str, cut: bool = False, drip: bool = False) -> None:
        if self.server.dead:
            self.close_connection = True
            return
        data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        for piece in (data[i : i + 1] for i in range(len(data))) if drip else [data[: len(data) // 2] if cut else data]:
            try:
                self.wfile.write(piece)
            except OSError:  # the client has had enough
                break
            time.sleep(DRIP_SECONDS if drip else 0)
        if cut:
            self.close_connection = True


class FakeVllm(ModelServer):
    """Routes: /v1/models, /v1/load_lora_adapter, /v1/unload_lora_adapter, /v1/completions."""

    def __init__(self, base: Path, max_model_len: int = 1024):
        super().__init__(base)
        self.max_model_len, self.adapters, self.first, self.blind = max_model_len, {}, None, False
        self.plain = self.load(base)

    def get(self, path: str) -> tuple[int, dict]:
        return 200, {"object": "list", "data": [{"id": name} for name in [str(self.base), *self.adapters]]}

    def post(self, path: str, body: dict) -> tuple[int, dict | str]:
        return {
            "/v1/load_lora_adapter": self._load,
            "/v1/unload_lora_adapter": self._unload,
            "/v1/completions": self._complete,
        }[path](body)

    def _load(self, body: dict) -> tuple[int, dict | str]:
        if body["lora_name"] in self.adapters:
            return 400, {"error": {"message": "has already been loaded", "code": 400}}
        if self.blind or not (Path(body["lora_path"]) / "adapter_config.json").is_file():
            return 404, {"error": {"message": f"No adapter found for {body['lora_path']}", "code": 404}}
        model = self.load(self.base, body["lora_path"])
        self.first = self.first or model
        self.adapters[body["lora_name"]] = {"base": self.plain, "first": self.first, None: model}[self.wrong]
        return 200, f"Success: LoRA adapter '{body['lora_name']}' added successfully."

    def _unload(self, body: dict) -> tuple[int, dict | str]:
        if body["lora_name"] not in self.adapters:
            return 404, {"error": {"message": "cannot be found", "code": 404}}
        del self.adapters[body["lora_name"]]
        return 200, "Success: removed."

    def _complete(self, body: dict) -> tuple[int, dict]:
        ids, room = body["prompt"], body["max_tokens"]
        model = self.plain if body["model"] == str(self.base) else self.adapters.get(body["model"])
        if model is None:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist.", "code": 404}}
        if len(ids) + room > self.max_model_len:
            return 400, {
                "error": {
                    "message": f"This model's maximum context length is {self.max_model_len} tokens.",
                    "code": 400,
                }
            }
        kept = {*body["stop_token_ids"], self.eos}

        def ends(written: list[int]) -> bool:
            text = self.tokenizer.decode(written, skip_special_tokens=body["skip_special_tokens"])
            return written[-1] in kept or any(stop in text for stop in body["stop"])

        written, logprobs, stopped = self.write(model, ids, room, body["temperature"], body["seed"], ends)
        choice = {
            "index": 0,
            "text": self.tokenizer.decode(written),
            "finish_reason": "stop" if stopped else "length",
            "token_ids": written,
        }
        choice["logprobs"] = {"token_logprobs": logprobs}
        if body.get("prompt_logprobs") is not None:
            choice["prompt_logprobs"] = [
                None,
                *({str(i): {"logprob": x, "rank": 1}} for i, x in zip(ids[1:], self.score(model, ids), strict=True)),
            ]
        return 200, {"object": "text_completion", "choices": [choice]}


class FakeTgi(ModelServer):
    """Routes: /info, /generate. Restarts itself on what CURRENT names, as under the sidecar: for a moment it is away,
    then serves the new checkpoint."""

    def __init__(self, base: Path, folder: Path):
        super().__init__(base)
        self.folder, self.served, self.model, self.first = folder, None, None, None
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        while not self.closed.wait(0.02):
            pointer = self.folder / CURRENT
            wanted = pointer.read_text() if pointer.is_file() else None
            if wanted != self.served:
                with self.lock:
                    model = self.load(Path(wanted))
                    self.first = self.first or model
                    self.model = {"base": None, "first": self.first, None: model}[self.wrong] or self.load(self.base)
                    self.served = wanted

    def get(self, path: str) -> tuple[int, dict]:
        if self.served is None:
            return 503, {"error": "unhealthy", "error_type": "healthcheck"}
        return 200, {"model_id": self.served, "max_concurrent_requests": 128, "version": "3.3.7"}

    def post(self, path: str, body: dict) -> tuple[int, dict]:
        asked = {
            "temperature": None,
            "top_p": None,
            "top_k": None,
            "stop": [],
            "seed": None,
            "do_sample": False,
            "decoder_input_details": False,
        } | body["parameters"]
        if (
            (asked["temperature"] is not None and asked["temperature"] <= 0)
            or len(asked["stop"]) > 4
            or asked["seed"] == 0
            or asked["top_p"] is not None
        ):
            return 422, {"error": "Input validation error", "error_type": "validation"}
        ids = self.tokenizer(body["inputs"])["input_ids"]

        def ends(written: list[int]) -> bool:
            return written[-1] == self.eos or self.tokenizer.decode(written).endswith(tuple(asked["stop"]))

        with self.lock:
            model = self.model
        temperature = (asked["temperature"] or 1.0) if asked["do_sample"] else 0.0
        written, logprobs, stopped = self.write(model, ids, asked["max_new_tokens"], temperature, asked["seed"], ends)
        prefill = [None, *self.score(model, ids)] if asked["decoder_input_details"] else []
        reason = ("eos_token" if written[-1] == self.eos else "stop_sequence") if stopped else "length"
        tokens = [
            {"id": i, "text": self.tokenizer.decode([i]), "logprob": x, "special": False}
            for i, x in zip(written, logprobs, strict=True)
        ]
        details = {"finish_reason": reason, "generated_tokens": len(written), "seed": asked["seed"], "tokens": tokens}
        details["prefill"] = [{"id": i, "text": "", "logprob": x} for i, x in zip(ids, prefill, strict=False)]
        return 200, {"generated_text": self.tokenizer.decode(written), "details": details}


@contextmanager
def serving(server: ModelServer):
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.closed.set()
        server.jobs.put(None)
        server.server_close()
