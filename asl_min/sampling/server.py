"""What the clients of vLLM (`vllm.py`) and Text Generation Inference (`tgi.py`) share: bringing the adapter's present
weights to one server or several, the proof that each serves them, and reading its tokens.

The proof: a server's own log-probabilities of a fixed prompt, and of tokens that it samples after it, must be the
trainer's, or the run ends with an error that names the weights which the server seems to serve. Each version of the
weights has a name of its own (a digest of its values), so that no cache of a server can mix two.

Samples are drawn by the server: they depend on the seed, but not in the way of the local generator.
"""

import hashlib
import math
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from peft import PeftModel

from asl_min.chat import Chat
from asl_min.config import Config
from asl_min.model import hidden_states, logits_of, save_adapter, use
from asl_min.run.errors import InputError
from asl_min.sampling.generate import turn_end
from asl_min.sampling.pool import Pool
from asl_min.sampling.sampler import Completion, Finish

MAX_REQUESTS = 128  # under way at once at a server, over all processes: TGI's own limit by default
PROBE_QUESTION = "Which rivers flow through the largest city of the country, and when was it founded?"
PROBE_SEED, PROBE_TOKENS = 20251014, 32
NEAR = 1e-3  # nats: a gap that rounding explains


@dataclass(frozen=True)
class Proved:
    """What a server must say of the probe: the trainer's log-probabilities, [tokens], and those of the base where an
    adapter is served."""

    own: list[float | None]
    of_base: list[float | None] | None

    def fits(self, found: list[float | None], tolerance: float) -> bool:
        """Are a server's log-probabilities `found` of the same tokens, or of the first ones, the trainer's? Not where
        the base alone is much nearer to them than the adapter."""
        gap = mean_gap(self.own, found)
        apart = self.of_base is None or mean_gap(self.of_base, found) > gap / 2
        return gap <= NEAR or (gap <= tolerance and apart)


class Server:
    """A `Sampler` by HTTP. `Vllm` and `Tgi` send one request to one server (`_sample`, `_probe`), write weights where
    all servers find them (`_write`) and make one server serve them (`_load`)."""

    many: bool
    """Whether a server can hold several weights at once."""

    def __init__(self, config: Config, accelerator: Accelerator, model: PeftModel, chat: Chat):
        self.config, self.accelerator, self.model, self.chat = config, accelerator, model, chat
        urls = [config.server_url] if isinstance(config.server_url, str) else config.server_url
        most, processes = config.generation_batch_size, accelerator.num_processes
        self.requests = max(min(most, MAX_REQUESTS * len(urls)) // processes, 1)
        self.pool = Pool(urls, max(min(most, MAX_REQUESTS) // processes, 1))
        self.folder = Path(config.server_folder).absolute()
        self.versions: dict[str, str] = {}
        self.version = ""
        self.proved: dict[str, Proved] = {}  # by version of an adapter

    def generate(
        self,
        contexts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        max_new: Sequence[int],
        temperature: float,
        known: Sequence[int] | None = None,
    ) -> list[Completion]:
        """As `Sampler.generate`; `known` is left to the server's own prefix cache. Raises `InputError` when the last
        server fails for good."""

        def one(row: int) -> Completion:
            job = (list(contexts[row]), seeds[row], max_new[row], temperature)
            return self.pool.ask(row, len(contexts), lambda http: self._sample(http, *job))

        threads, order = ThreadPoolExecutor(self.requests), self.pool.order(len(contexts))
        try:
            found = dict(zip(order, threads.map(one, order), strict=True))
        finally:
            threads.shutdown(cancel_futures=True)  # after a lasting fault, the requests that still wait are not sent
        return [found[row] for row in range(len(contexts))]

    @contextmanager
    def serving(self, adapter: str, base: bool = False) -> Iterator[None]:
        """As `Sampler.serving`. Raises `InputError` where a server serves other weights than it should."""
        key = "base" if base else adapter
        self.version = self._base_name() if base else f"{adapter}-{digest(self.model, adapter)}"
        if self.versions.get(key) != self.version:
            if self.accelerator.is_main_process:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._write(adapter, base)
                self.pool.ask_each(lambda http: self._load(http, adapter, base))
            self.pool.agree(self.accelerator)
            context = self._probe_context()
            probes = self.pool.ask_each(lambda http: self._probe(http, context))
            self.pool.agree(self.accelerator)  # the checks are forward passes, which must be the same ones everywhere
            for http in self.pool.alive:
                self._check_weights(http.where, *probes[http], adapter, base)
            self.versions = (self.versions if self.many else {}) | {key: self.version}
        yield

    def _probe_context(self) -> list[int]:
        return self.chat.prompt("policy", question=PROBE_QUESTION)

    def _check_weights(self, where: str, ids: list[int], found: list[float | None], name: str, base: bool) -> None:
        """Raises `InputError` unless a server's log-probabilities `found` of `ids` fit the trainer's."""
        own, tolerance = logprobs_of(self.model, ids), self.config.server_tolerance
        with self.model.disable_adapter():
            of_base = logprobs_of(self.model, ids)
        proved = Proved(of_base, None) if base else Proved(own, of_base)
        if proved.fits(found, tolerance):
            self.proved |= {} if base else {self.version: proved}
            return
        gap = mean_gap(proved.own, found)
        gaps = {} if base else {"the base model without the adapter": mean_gap(of_base, found)}
        gaps |= {f"an older adapter, {path.name}": self._gap_of(path, name, ids, found) for path in self._older(name)}
        nearest = min(gaps, key=gaps.get, default="")
        known = nearest and gaps[nearest] <= max(tolerance, NEAR) and gaps[nearest] < gap
        gaps_text = ", ".join(f"{k}: {v:.3g}" for k, v in gaps.items())
        raise InputError(
            f"{where}: the server does not serve {self.version}: its log-probabilities of a fixed prompt are "
            f"off by {gap:.3g} nats a token (server_tolerance {tolerance:g}); "
            f"it seems to serve {nearest if known else 'unknown weights'} ({gaps_text})"
        )

    def _older(self, name: str) -> list[Path]:
        """Folders of the adapter's last earlier versions, the newest first."""
        folders = (path for path in self.folder.glob(f"{name}-*") if path.name != self.version)
        found = [path for path in folders if (path / "adapter_config.json").is_file()]
        return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[:4]

    def _gap_of(self, path: Path, name: str, ids: list[int], found: list[float | None]) -> float:
        self.model.load_adapter(path, adapter_name="suspect")
        use(self.model, "suspect")
        try:
            return mean_gap(logprobs_of(self.model, ids), found)
        finally:
            use(self.model, name)
            self.model.delete_adapter("suspect")

    def _adapter_folder(self, name: str) -> Path:
        """Write the present adapter, whole or not at all, to a folder that the servers see too; only a few older ones
        are kept."""
        folder, temporary = self.folder / self.version, self.folder / f".{self.version}"
        shutil.rmtree(temporary, ignore_errors=True)
        save_adapter(self.model, name, temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
        for old in self._older(name)[2:]:
            shutil.rmtree(old, ignore_errors=True)
        return folder

    def _read_tokens(self, ids: list[int], logprobs: list[float], closed: bool, room: int) -> Completion:
        """What a server returned as tokens, cut at the end of the turn. `closed`: the server ended them before the
        limit. Raises `ValueError` where this cannot be true."""
        vocabulary = self.model.config.vocab_size
        if len(ids) != len(logprobs) or not 0 < len(ids) <= room:
            raise ValueError(f"{len(ids)} ids and {len(logprobs)} log-probabilities for at most {room} tokens")
        if not all(isinstance(i, int) and 0 <= i < vocabulary for i in ids):
            raise ValueError(f"ids outside the vocabulary of {vocabulary}")
        if not all(isinstance(x, float | int) and math.isfinite(x) and x < NEAR for x in logprobs):
            raise ValueError("a log-probability is missing, positive or not finite")
        return cut(self.chat, ids, logprobs, closed, room)


def cut(chat: Chat, ids: list[int], logprobs: list[float], closed: bool, room: int) -> Completion:
    """The tokens up to the first end-of-turn token or stop string, as `turn_end` says. An early end at another special
    token, such as Qwen's <|endoftext|>, ends the turn too. Raises `ValueError` when the server ended early without any
    of these."""
    for n in range(1, len(ids) + 1):
        if end := turn_end(chat, ids[:n]):
            reason, last = end
            return Completion((*ids[: n - 1], *last), (*logprobs[:n], *[0.0] * (len(last) - 1)), reason)
    if closed and ids[-1] in chat.tokenizer.all_special_ids:
        return Completion(tuple(ids), tuple(logprobs), Finish.EOS)
    if closed or len(ids) < room:
        raise ValueError(f"ended after {len(ids)} of {room} tokens without an end-of-turn token or stop string")
    return Completion(tuple(ids), tuple(logprobs), Finish.LENGTH)


@torch.inference_mode()
def logprobs_of(model: PeftModel, ids: list[int]) -> list[float | None]:
    """The model's own log-probabilities of `ids`, [tokens]; None for the first one, before which there is nothing."""
    hidden = hidden_states(model, torch.tensor([ids], device=model.device), use_cache=False)[0, :-1]
    following = torch.tensor(ids[1:], device=model.device)[:, None]
    return [None, *logits_of(model, hidden).log_softmax(-1).gather(-1, following)[:, 0].tolist()]


def mean_gap(own: Sequence[float | None], found: Sequence[float | None]) -> float:
    """Mean absolute difference, nats a token, of two lists of log-probabilities as far as both reach; None is left
    out."""
    gaps = [abs(a - b) for a, b in zip(own, found, strict=False) if a is not None and b is not None]
    return sum(gaps) / len(gaps) if gaps else math.inf


def digest(model: PeftModel, name: str) -> str:
    """12 hex digits that tell one state of an adapter from another."""
    found = hashlib.blake2b(digest_size=6)
    for key, parameter in model.named_parameters():
        if f".{name}." in key:
            found.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy())
    return found.hexdigest()
