"""Generation by the trainer's own model: token ids in; token ids, log-probabilities and a finish reason out.

`Generator.generate` works for any Hugging Face causal LM. Each completion is drawn from its own seed, by inverting the
cumulative distribution, so it depends neither on the other rows of its batch nor on the process. Rows with the same
tokens so far share one forward pass (`prefix_cache.py`), and so does a long head that all contexts have. The keys and
values of a finished turn are kept for the episode's next turn, which then starts at the tool's response instead of
reading the whole context again. A pass over two rows takes half as long as one over thirty: the last rows of a turn
wait for the next turn of the others.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import PreTrainedModel

from asl_min.chat import Chat
from asl_min.model import merged
from asl_min.protocol import STOP_STRINGS
from asl_min.sampling.prefix_cache import CacheLayer, KeysValues, PrefixCache
from asl_min.sampling.sampler import Completion, Finish

TAIL = 24  # tokens decoded to look for a stop string
SHARED_TOKENS = 64  # of a head that all contexts have in common, from which on it is computed once
PAUSE_SHARE = 0.25  # rows that are still writing wait for the next call when at most this share of all is left


@dataclass
class _Row:
    """A completion being written."""

    context: tuple[int, ...]
    max_new: int
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: Finish = Finish.LENGTH


class Generator:
    """The local `Sampler`: samples from a model with a key-value cache."""

    def __init__(self, model: PreTrainedModel, chat: Chat):
        self.model, self.chat = model, chat
        pieces = chat.tokenizer.batch_decode([[i] for i in range(len(chat.tokenizer))], skip_special_tokens=False)
        self._may_end = torch.zeros(max(len(pieces), model.config.vocab_size), dtype=torch.bool)  # [vocabulary]
        self._may_end[: len(pieces)] = torch.tensor([">" in piece for piece in pieces])
        self._may_end[list(chat.eos_ids)] = True
        self._kept: dict[tuple[int, ...], KeysValues] = {}
        self._paused: dict[tuple[tuple[int, ...], int], _Row] = {}  # by context and seed
        self._layers: list[CacheLayer] = []

    @contextmanager
    def serving(self, adapter: str, base: bool = False) -> Iterator[None]:
        """As `Sampler.serving`. The adapter is merged into the base for the time being. What was kept for later turns
        belongs to these weights, so it is dropped at the end; a GPU gets its memory back too."""
        with self.model.disable_adapter() if base else merged(self.model, adapter):
            try:
                yield
            finally:
                self._kept, self._paused = {}, {}
                if self.model.device.type != "cpu":
                    self._layers = []

    @torch.inference_mode()
    def generate(
        self,
        contexts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        max_new: Sequence[int],
        temperature: float,
        known: Sequence[int] | None = None,
    ) -> list[Completion | None]:
        """As `Sampler.generate`, all contexts in one batch. A new batch drops what was kept of the one before."""
        if not contexts:
            return []
        keys, (paused, self._paused) = list(zip(map(tuple, contexts), seeds, strict=True)), (self._paused, {})
        rows = [paused.pop(key, None) or _Row(key[0], room) for key, room in zip(keys, max_new, strict=True)]
        cache = self._open_cache(rows, known or [0] * len(rows))
        uniforms = torch.from_numpy(uniform_numbers(seeds, max(max_new))).to(self.model.device)
        running = list(range(len(rows)))
        places, logits = cache.prefill()
        while True:
            steps = [len(rows[i].ids) for i in running]
            tokens, logprobs = sample(logits, places, uniforms[running, steps], temperature)
            going = self._append([rows[i] for i in running], tokens, logprobs, places, cache)
            running, places = [running[i] for i in going], places[going]
            if len(running) <= (PAUSE_SHARE * len(rows) if known else 0):
                break
            places, logits = cache.grow(places, tokens[going])
        for i, place in zip(running, places.tolist(), strict=True):
            self._keep(rows[i], cache, place)
            self._paused[keys[i]] = rows[i]
        done = [None if i in running else row for i, row in enumerate(rows)]
        return [row and Completion(tuple(row.ids), tuple(row.logprobs), row.finish_reason) for row in done]

    def _open_cache(self, rows: list[_Row], known: Sequence[int]) -> PrefixCache:
        contexts, longest = [(*row.context, *row.ids) for row in rows], max(row.max_new for row in rows)
        known = [len(context) if row.ids else n for row, context, n in zip(rows, contexts, known, strict=True)]
        kept, self._kept = self._kept if any(known) else {}, {}
        self._layers = self._layers or [CacheLayer() for _ in range(self.model.config.num_hidden_layers)]
        head = common_head(contexts)
        if len(head) >= SHARED_TOKENS and not any(known):
            first = PrefixCache(self.model, self._layers, [head], [0], {}, 0)
            first.prefill()
            kept, known = {head: first.keys_values(0)}, [len(head) + 1] * len(rows)
        return PrefixCache(self.model, self._layers, contexts, known, kept, longest)

    def _keep(self, row: _Row, cache: PrefixCache, place: int) -> None:
        """Keys and values of a row, of all but its last token, for the next call."""
        if (known := (*row.context, *row.ids[:-1])) not in self._kept:
            self._kept[known] = cache.keys_values(place)

    def _append(
        self,
        rows: list[_Row],
        tokens: torch.Tensor,
        logprobs: torch.Tensor,
        places: torch.Tensor,
        cache: PrefixCache,
    ) -> list[int]:
        """Give every running row its next token. `tokens`, `logprobs` and `places` are [rows]. Returns which of the
        rows go on; of those that end a turn, keys and values are kept."""
        may_end, going = self._may_end[tokens.cpu()].tolist(), []
        sampled = zip(rows, tokens.tolist(), logprobs.tolist(), may_end, strict=True)
        for i, (row, token, logprob, check) in enumerate(sampled):
            row.ids.append(token)
            row.logprobs.append(logprob)
            end = turn_end(self.chat, row.ids) if check else None
            if end:
                self._keep(row, cache, int(places[i]))
                row.finish_reason, row.ids[-1:] = end
                row.logprobs += [0.0] * (len(row.ids) - len(row.logprobs))
            elif len(row.ids) < row.max_new:
                going.append(i)
        return going


def common_head(contexts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The tokens that all contexts begin with, without the last token of any; empty where all are one context."""
    first, last = min(contexts), max(contexts)
    if first == last:
        return ()
    n = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: min(n, min(map(len, contexts)) - 1)]


def turn_end(chat: Chat, ids: Sequence[int]) -> tuple[Finish, list[int]] | None:
    """Does the last of a turn's sampled ids end the turn? If so: how, and the ids to record in place of that last id.

    Mostly this is the id itself. But one token may hold text beyond the stop string, such as ">" and an empty line.
    White space there is kept. Any other text is cut off: the id is replaced by the ids of its part up to the stop
    string; the first of them keeps the log-probability, the others have 0.
    """
    if ids[-1] in chat.eos_ids:
        return Finish.EOS, [ids[-1]]
    text = chat.decode(ids[-TAIL:])
    ends = [text.index(stop) + len(stop) for stop in STOP_STRINGS if stop in text]
    if not ends:
        return None
    beyond, piece = text[min(ends) :], chat.decode(ids[-1:])
    cut = beyond.strip() and piece.endswith(beyond)
    return Finish.STOP, chat.plain(piece.removesuffix(beyond)) if cut else [ids[-1]]


def uniform_numbers(seeds: Sequence[int], steps: int) -> np.ndarray:
    """Numbers from [0, 1), [rows, steps] in float64: each row from its own seed alone."""
    return np.stack([np.random.Generator(np.random.Philox(key=seed)).random(steps) for seed in seeds])


def sample(
    logits: torch.Tensor, places: torch.Tensor, uniforms: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and their log-probabilities, both [rows], from logits [places, vocabulary], the place of each row and one
    uniform number a row."""
    logits = torch.nan_to_num(logits.float())
    probabilities = (logits / (temperature or 1.0)).softmax(-1)
    if temperature == 0:
        tokens = logits.argmax(-1)[places]
    else:
        cumulative = probabilities.cumsum(-1, dtype=torch.float64)[places]
        threshold = uniforms[:, None].to(cumulative) * cumulative[:, -1:]
        tokens = torch.searchsorted(cumulative, threshold, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    return tokens, probabilities[places, tokens].log()
