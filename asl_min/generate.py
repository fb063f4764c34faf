"""Generation: token ids in; token ids, log-probabilities and a stop reason out.

`generate` takes contexts and returns one `Completion` each, for any Hugging Face causal LM. Each context's samples are drawn
from its own seed by inverting the cumulative distribution, so a completion depends neither on its batch nor on the process.

Samples of one prompt often say the same for a long while. What several rows of a batch have in common from the start, a history,
is computed once: it has one place in the key-value cache, which forks when the rows part. Keys and values of a finished turn are
kept until the next call, so that an episode's next turn begins with the tool's response, not with the whole context.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from asl_min.chat import Chat
from asl_min.model import hidden_states, logits_of
from asl_min.protocol import STOP_STRINGS

TAIL = 24  # tokens decoded to look for a stop string
KEEP_SHARE = 0.75  # the cache is packed when at most this share of its places is still in use
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


KeysValues = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of one history, each [heads, tokens, head dim], for every layer."""


class PlaceLayer(CacheLayerMixin):
    """Keys and values of one layer in a block allocated once, [places, heads, capacity, head dim]; the first places are in use.

    A place may start with the keys and values of a `past`; the first `length` columns are set apart for these.
    """

    def __init__(self, places: int, capacity: int, pasts: dict[int, tuple[torch.Tensor, torch.Tensor]], length: int):
        super().__init__()
        self.places, self.capacity, self.pasts, self.length = places, capacity, pasts, length

    def lazy_initialization(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.keys, self.values = (x.new_zeros((self.places, x.shape[1], self.capacity, x.shape[-1])) for x in (keys, values))
        for place, (past_keys, past_values) in self.pasts.items():
            self.keys[place, :, : past_keys.shape[1]] = past_keys
            self.values[place, :, : past_values.shape[1]] = past_values
        self.is_initialized = True

    def update(self, keys: torch.Tensor, values: torch.Tensor, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        used, end = len(keys), self.length + keys.shape[-2]
        self.keys[:used, :, self.length : end] = keys
        self.values[:used, :, self.length : end] = values
        self.length = end
        return self.keys[:used, :, :end], self.values[:used, :, :end]

    def copy(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        for block in (self.keys, self.values):
            block[targets, :, : self.length] = block[sources, :, : self.length]

    def of(self, place: int, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.keys[place][:, columns], self.values[place][:, columns]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.capacity


class Generator:
    """Samples from a model with a key-value cache."""

    def __init__(self, model: PreTrainedModel, chat: Chat):
        self.model, self.chat = model, chat
        pieces = chat.tokenizer.batch_decode([[i] for i in range(len(chat.tokenizer))], skip_special_tokens=False)
        self._may_end = torch.zeros(max(len(pieces), model.config.vocab_size), dtype=torch.bool)
        self._may_end[: len(pieces)] = torch.tensor([">" in piece for piece in pieces])
        self._may_end[list(chat.eos_ids)] = True
        self._kept: dict[tuple[int, ...], KeysValues] = {}

    def forget(self) -> None:
        """Drop what is kept of earlier calls; due whenever the weights change."""
        self._kept = {}

    @torch.no_grad()
    def generate(
        self, contexts: Sequence[Sequence[int]], seeds: Sequence[int], max_new: Sequence[int], temperature: float, known: Sequence[int] | None = None
    ) -> list[Completion]:
        """One completion a context, in the order given, all in one batch. `temperature` 0 is greedy; `max_new` tokens at most, each at least 1.

        `known`: how many of a context's first tokens are a context and completion of the call before, whose work is then not done again.
        """
        if not contexts:
            return []
        kept, self._kept = self._kept, {}
        histories = _Histories(self.model, list(map(tuple, contexts)), known or [0] * len(contexts), kept, max(max_new))
        uniforms = np.stack([np.random.Generator(np.random.Philox(key=seed)).random(max(max_new)) for seed in seeds])
        uniforms = torch.from_numpy(uniforms).to(self.model.device)
        ids: list[list[int]] = [[] for _ in contexts]
        logprobs: list[list[float]] = [[] for _ in contexts]
        ended: list[Ended] = [Ended.LENGTH] * len(contexts)
        running = list(range(len(contexts)))
        places, logits = histories.prefill()
        for step in range(max(max_new)):
            tokens, token_logprobs = sample(logits[places], uniforms[running, step], temperature)
            may_end = self._may_end[tokens.cpu()].tolist()
            going = []
            for i, (row, token, logprob, check) in enumerate(zip(running, tokens.tolist(), token_logprobs.tolist(), may_end, strict=True)):
                ids[row].append(token)
                logprobs[row].append(logprob)
                end = self._end(ids[row]) if check else None
                ended[row] = end or Ended.LENGTH
                if end and (history := (*contexts[row], *ids[row][:-1])) not in self._kept:
                    self._kept[history] = histories.keys_values(int(places[i]))
                if not end and len(ids[row]) < max_new[row]:
                    going.append(i)
            if not going:
                break
            running = [running[i] for i in going]
            places, logits = histories.grow(places[going], tokens[going])
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


class _Histories:
    """The distinct histories of a batch. Columns of the cache: what was known before, the rest of the contexts, then one a step."""

    def __init__(self, model: PreTrainedModel, contexts: list[tuple[int, ...]], known: Sequence[int], kept: dict[tuple[int, ...], KeysValues], max_new: int):
        self.model, device = model, model.device
        distinct = dict(zip(contexts, known, strict=True))
        number = {context: place for place, context in enumerate(distinct)}
        self.row_places = torch.tensor([number[context] for context in contexts], device=device)
        pasts = {number[c]: kept[c[: n - 1]] for c, n in distinct.items() if n and c[: n - 1] in kept}
        starts = [n - 1 if number[c] in pasts else 0 for c, n in distinct.items()]
        new = [context[start:] for context, start in zip(distinct, starts, strict=True)]
        self.used, self.width, chunk = len(distinct), _padded(max(starts)), _padded(max(map(len, new)))
        self.ids = torch.tensor([(*part, *(0,) * (chunk - len(part))) for part in new], device=device)
        self.starts, self.lasts = torch.tensor(starts, device=device), torch.tensor([len(part) - 1 for part in new], device=device)
        capacity = self.width + chunk + max_new
        self.lengths = torch.zeros(len(contexts), dtype=torch.long, device=device)
        self.lengths[: self.used] = self.starts + self.lasts + 1
        self.seen = torch.zeros(len(contexts), capacity, dtype=torch.bool, device=device)
        self.seen[: self.used, : self.width] = torch.arange(self.width, device=device) < self.starts[:, None]
        self.seen[: self.used, self.width : self.width + chunk] = torch.arange(chunk, device=device) <= self.lasts[:, None]
        depth = range(model.config.num_hidden_layers)
        self.layers = [PlaceLayer(len(contexts), capacity, {place: past[i] for place, past in pasts.items()}, self.width) for i in depth]

    def prefill(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The place of each row's history [rows], and the logits [places, vocabulary] after each history."""
        chunk, mask, positions = self.ids.shape[1], None, None
        if self.width:
            causal = torch.ones(chunk, self.width + chunk, dtype=torch.bool, device=self.ids.device).tril(self.width)
            mask = self.seen[: self.used, None, None, : self.width + chunk] & causal
            positions = self.starts[:, None] + torch.arange(chunk, device=self.ids.device)
        hidden = hidden_states(self.model, self.ids, attention_mask=mask, position_ids=positions, past_key_values=Cache(layers=self.layers), use_cache=True)
        return self.row_places, logits_of(self.model, hidden[torch.arange(self.used, device=hidden.device), self.lasts])

    def keys_values(self, place: int) -> KeysValues:
        """Of the history at a place, without gaps."""
        columns = self.seen[place, : self.layers[0].length].nonzero()[:, 0]
        return [layer.of(place, columns) for layer in self.layers]

    def grow(self, places: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each row, given by the place of its history [rows], gets one more token [rows]. Returns as `prefill`."""
        size = self.model.config.vocab_size
        pairs, index = torch.unique(places * size + tokens, return_inverse=True)
        places = self._fork(pairs // size)
        ids = torch.zeros(self.used, 1, dtype=torch.long, device=places.device)
        ids[places, 0] = pairs % size
        column = self.layers[0].length
        self.seen[: self.used, column] = True
        mask, positions = self.seen[: self.used, None, None, : column + 1], self.lengths[: self.used, None].clone()
        hidden = hidden_states(self.model, ids, attention_mask=mask, position_ids=positions, past_key_values=Cache(layers=self.layers), use_cache=True)
        self.lengths += 1
        return places[index], logits_of(self.model, hidden[:, 0])

    def _fork(self, parents: torch.Tensor) -> torch.Tensor:
        """A place for every child of the histories at `parents` (sorted): the parent's own for its first child, a free one for the others."""
        if len(parents) <= KEEP_SHARE * self.used:
            self._copy(parents, torch.arange(len(parents), device=parents.device))
            self.used = len(parents)
            return torch.arange(self.used, device=parents.device)
        later = torch.zeros_like(parents, dtype=torch.bool)
        later[1:] = parents[1:] == parents[:-1]
        free = torch.ones(len(self.lengths), dtype=torch.bool, device=parents.device)
        free[parents] = False
        children = parents.clone()
        children[later] = free.nonzero()[: int(later.sum()), 0]
        self._copy(parents[later], children[later])
        self.used = int(children.max()) + 1
        return children

    def _copy(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        for layer in self.layers:
            layer.copy(sources, targets)
        self.seen[targets], self.lengths[targets] = self.seen[sources], self.lengths[sources]


def _padded(length: int) -> int:
    return -(-length // PAD_TO) * PAD_TO
