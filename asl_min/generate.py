"""Generation: token ids in; token ids, log-probabilities and a stop reason out.

`generate` takes contexts and returns one `Completion` each, for any Hugging Face causal LM. Each context's samples are drawn
from its own seed by inverting the cumulative distribution, so a completion depends neither on its batch nor on the process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from asl_min.chat import Chat
from asl_min.protocol import STOP_STRINGS

TAIL = 24  # tokens decoded to look for a stop string
KEEP_SHARE = 0.75  # finished rows are dropped from the cache when at most this share of its rows still runs
PAD_TO = 16  # lengths are rounded up to this, so that few shapes occur and memory stays flat


class Ended(StrEnum):
    STOP = "stop"
    EOS = "eos"
    LENGTH = "length"


@dataclass(frozen=True)
class Completion:
    """Sampled ids (the stop string or end-of-turn token included) with their log-probabilities, both [length]."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    ended: Ended


class RowLayer(CacheLayerMixin):
    """Keys and values of one layer in a block allocated once, [rows, heads, capacity, head dim]; rows can be dropped."""

    def __init__(self, capacity: int):
        super().__init__()
        self.capacity, self.length = capacity, 0

    def lazy_initialization(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        shape = (*keys.shape[:2], self.capacity)
        self.keys = keys.new_empty((*shape, keys.shape[-1]))
        self.values = values.new_empty((*shape, values.shape[-1]))
        self.is_initialized = True

    def update(self, keys: torch.Tensor, values: torch.Tensor, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        end = self.length + keys.shape[-2]
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def select(self, rows: torch.Tensor) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.capacity


class Generator:
    """Samples from a model with a key-value cache, in batches of contexts of like length."""

    def __init__(self, model: PreTrainedModel, chat: Chat, batch_rows: int = 256):
        self.model, self.chat, self.batch_rows = model, chat, batch_rows
        pieces = chat.tokenizer.batch_decode([[i] for i in range(len(chat.tokenizer))], skip_special_tokens=False)
        self._may_end = torch.zeros(max(len(pieces), model.config.vocab_size), dtype=torch.bool)
        self._may_end[: len(pieces)] = torch.tensor([">" in piece for piece in pieces])
        self._may_end[list(chat.eos_ids)] = True

    @torch.no_grad()
    def generate(self, contexts: Sequence[Sequence[int]], seeds: Sequence[int], max_new: Sequence[int], temperature: float) -> list[Completion]:
        """One completion a context, in the order given. `temperature` 0 is greedy; `max_new` tokens at most, each at least 1."""
        order = sorted(range(len(contexts)), key=lambda i: len(contexts[i]))
        done: list[Completion | None] = [None] * len(contexts)
        for start in range(0, len(order), self.batch_rows):
            rows = order[start : start + self.batch_rows]
            batch = self._batch([contexts[i] for i in rows], [seeds[i] for i in rows], [max_new[i] for i in rows], temperature)
            for row, completion in zip(rows, batch, strict=True):
                done[row] = completion
        return done

    def _batch(self, contexts: list[Sequence[int]], seeds: list[int], max_new: list[int], temperature: float) -> list[Completion]:
        steps = max(max_new)
        state = _Rows(self.model, contexts, steps)
        uniforms = np.stack([np.random.Generator(np.random.Philox(key=seed)).random(steps) for seed in seeds])
        uniforms = torch.from_numpy(uniforms).to(self.model.device)
        ids: list[list[int]] = [[] for _ in contexts]
        logprobs: list[list[float]] = [[] for _ in contexts]
        ended: list[Ended] = [Ended.LENGTH] * len(contexts)
        rows = list(range(len(contexts)))  # the row in each place of the cache, finished ones included until they are dropped
        running = set(rows)
        logits = state.prefill()
        for step in range(steps):
            tokens, token_logprobs = sample(logits, uniforms[rows, step], temperature)
            may_end = self._may_end[tokens.cpu()].tolist()
            for row, token, logprob, check in zip(rows, tokens.tolist(), token_logprobs.tolist(), may_end, strict=True):
                if row in running:
                    ids[row].append(token)
                    logprobs[row].append(logprob)
                    end = self._end(ids[row]) if check else None
                    ended[row] = end or Ended.LENGTH
                    if end or len(ids[row]) == max_new[row]:
                        running.discard(row)
            if not running:
                break
            kept = None
            if len(running) <= KEEP_SHARE * len(rows):
                kept = [place for place, row in enumerate(rows) if row in running]
                rows = [rows[place] for place in kept]
            logits = state.step(tokens, kept)
        return [Completion(tuple(i), tuple(lp), e) for i, lp, e in zip(ids, logprobs, ended, strict=True)]

    def _end(self, ids: list[int]) -> Ended | None:
        if ids[-1] in self.chat.eos_ids:
            return Ended.EOS
        return Ended.STOP if self.chat.decode(ids[-TAIL:]).endswith(STOP_STRINGS) else None


def sample(logits: torch.Tensor, uniforms: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and their log-probabilities, both [rows], from logits [rows, vocabulary] and one uniform number a row."""
    logits = torch.nan_to_num(logits.float())
    if temperature == 0:
        tokens = logits.argmax(-1)
        return tokens, logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
    logprobs = (logits / temperature).log_softmax(-1)
    cumulative = logprobs.exp().double().cumsum(-1)
    threshold = uniforms[:, None].to(cumulative) * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, threshold, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    return tokens, logprobs.gather(-1, tokens[:, None])[:, 0]


class _Rows:
    """The rows of one batch still being sampled: left-padded contexts, their positions and their cache."""

    def __init__(self, model: PreTrainedModel, contexts: list[Sequence[int]], max_new: int):
        self.model = model
        length = -(-max(map(len, contexts)) // PAD_TO) * PAD_TO
        self.ids = torch.zeros(len(contexts), length, dtype=torch.long, device=model.device)
        self.seen = torch.zeros(len(contexts), length + max_new, dtype=torch.bool, device=model.device)
        for row, context in enumerate(contexts):
            self.ids[row, length - len(context) :] = torch.tensor(context, device=model.device)
            self.seen[row, length - len(context) :] = True
        self.length, self.positions = length, self.seen[:, :length].sum(-1)
        self.cache = Cache(layers=[RowLayer(length + max_new) for _ in range(model.config.num_hidden_layers)])

    def prefill(self) -> torch.Tensor:
        """Logits [rows, vocabulary] after the contexts. Rows with the same context share one forward pass."""
        told_apart = self.ids.masked_fill(~self.seen[:, : self.length], -1)
        unique, place = torch.unique(told_apart, dim=0, return_inverse=True)
        first = torch.full((len(unique),), len(place), device=place.device).scatter_reduce(0, place, torch.arange(len(place), device=place.device), "amin")
        seen = self.seen[first, : self.length]
        causal = torch.ones(self.length, self.length, dtype=torch.bool, device=seen.device).tril()
        mask = seen[:, None, None, :] & causal | torch.eye(self.length, dtype=torch.bool, device=seen.device)
        positions = (seen.cumsum(-1) - 1).clamp(min=0)
        logits = self._forward(self.ids[first], mask, positions)
        self._select(place)
        return logits[place]

    def step(self, tokens: torch.Tensor, kept: list[int] | None) -> torch.Tensor:
        """Logits after one more token a row; only the places in `kept` stay in the batch (None: all)."""
        if kept is not None:
            places = torch.tensor(kept, device=tokens.device)
            tokens, self.positions, self.seen = tokens[places], self.positions[places], self.seen[places]
            self._select(places)
        self.seen[:, self.length] = True
        self.length += 1
        mask = self.seen[:, None, None, : self.length]
        logits = self._forward(tokens[:, None], mask, self.positions[:, None])
        self.positions = self.positions + 1
        return logits

    def _select(self, rows: torch.Tensor) -> None:
        for layer in self.cache.layers:
            layer.select(rows)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        output = self.model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1]
