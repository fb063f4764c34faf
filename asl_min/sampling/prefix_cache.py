"""The key-value cache of a batch being sampled.

Samples of one prompt are often the same for many tokens; what they have in common is computed once. Each distinct
sequence so far has one place (a row of the cache), in which the column of a token is its position. Rows of the batch
that are still equal share a place, and the place forks when they differ.

Two samples of the prompt 5 6 7, at most 3 new tokens:

    prefill              place 0: 5 6 7      columns 0 to 2; those behind are masked
    both rows draw 8     place 0: 5 6 7 8    column 3; one forward pass of one token for both rows
    they draw 4 and 9    place 0: 5 6 7 8 4  place 0 forks: its columns are copied to place 1,
                         place 1: 5 6 7 8 9  then the forward pass fills column 4 of both
    the first row ends   place 0: 5 6 7 8 9  few places are still in use, so the cache is packed: 1 moves to 0
"""

import math
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from asl_min.model import hidden_states, logits_of, padded
from asl_min.sampling.decoder import Decoder

KEEP_SHARE = 0.75  # the cache is packed when at most this share of its places is still in use
PREFILL_TOKENS = 1024  # of one forward pass over contexts: more would leave the processor's caches

KeysValues = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of one sequence, each [heads, tokens, head dim], for every layer."""


class CacheLayer(CacheLayerMixin):
    """Keys and values of one decoder layer, both [places, heads, columns, head dim]. A forward pass covers the places
    `at`, the first ones if that is None; its tokens are at `positions` [places of the pass, tokens] and see columns up
    to `length`.

    Every batch uses the memory of the batch before: to allocate it anew takes as long as the forward passes.
    """

    def __init__(self):
        super().__init__()
        self._memory: dict[str, torch.Tensor] = {}

    def open(
        self, places: int, columns: int, prompts: int, pasts: dict[int, tuple[torch.Tensor, torch.Tensor]]
    ) -> None:
        """Begin a batch. `prompts`: how many of the first columns hold contexts. `pasts`: keys and values, each
        [heads, tokens, head dim], that a place starts with."""
        self.places, self.columns, self.prompts, self.pasts = places, columns, prompts, pasts
        self.is_initialized = False

    def go_to(self, at: torch.Tensor | None, positions: torch.Tensor, length: int) -> None:
        """Where the next forward pass takes place."""
        self.at, self.positions, self.length = at, positions, length

    def lazy_initialization(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self._allocate(keys, values)
        self.clear(0, self.prompts)
        for place, past in self.pasts.items():
            self.keys[place, :, : past[0].shape[1]], self.values[place, :, : past[1].shape[1]] = past
        self.is_initialized = True

    def clear(self, start: int, end: int) -> None:
        """Columns that are seen from now on. What is masked has weight 0, but 0 times NaN would be NaN."""
        for block in (self.keys, self.values):
            block[:, :, start:end] = 0

    def _allocate(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Make `self.keys` and `self.values` hold `self.places` places; what they hold already stays."""
        for name, like in (("keys", keys), ("values", values)):
            shape = (self.places, like.shape[1], self.columns, like.shape[-1])
            memory, wanted = self._memory.get(name, like.new_empty(0)), math.prod(shape)
            if memory.numel() < wanted:
                self._memory[name] = torch.cat([memory, memory.new_zeros(wanted - memory.numel())])
            setattr(self, name, self._memory[name][:wanted].view(shape))

    def update(self, keys: torch.Tensor, values: torch.Tensor, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        """Enter keys and values [places of the pass, heads, tokens, head dim]; return all that these places see."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        at = torch.arange(len(keys), device=keys.device) if self.at is None else self.at
        for block, new in ((self.keys, keys), (self.values, values)):
            block[at[:, None], :, self.positions] = new.transpose(1, 2)
        read = slice(len(keys)) if self.at is None else at  # the first places are a view, others a copy
        return self.keys[read, :, : self.length], self.values[read, :, : self.length]

    def copy(self, sources: torch.Tensor, targets: torch.Tensor, places: int, length: int) -> None:
        """Copy the first `length` columns of the places `sources` to `targets`, after making room for at least `places`
        places."""
        if places > self.places:
            self.places = max(places, 2 * self.places)
            self._allocate(self.keys, self.values)
        for block in (self.keys, self.values):
            seen = block[:, :, :length]
            seen.index_copy_(0, targets, seen.index_select(0, sources))

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length, 0

    def get_seq_length(self) -> int:
        return int(self.positions.min())

    def get_max_length(self) -> int:
        return self.columns


class PrefixCache:
    """The distinct sequences of a batch.

    `layers` are used again batch after batch. `known`: how many of a context's first tokens were seen in the call
    before. `kept`: the keys and values of sequences of that call, without their last token.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        layers: list[CacheLayer],
        contexts: list[tuple[int, ...]],
        known: Sequence[int],
        kept: dict[tuple[int, ...], KeysValues],
        max_new: int,
    ):
        self.model, self.device, self.layers = model, model.device, layers
        starts = {c: n - 1 if n and c[: n - 1] in kept else 0 for c, n in zip(contexts, known, strict=True)}
        order = sorted(starts, key=len, reverse=True)  # so that neighbours see as many columns
        number = {context: place for place, context in enumerate(order)}
        self.row_places = torch.tensor([number[context] for context in contexts], device=self.device)
        self.new = [context[starts[context] :] for context in order]  # tokens to be computed
        self.used, self.starts = len(order), torch.tensor([starts[context] for context in order], device=self.device)
        self.positions = torch.zeros(len(contexts), dtype=torch.long, device=self.device)  # of a place's next token
        self.positions[: self.used] = torch.tensor([len(context) for context in order], device=self.device)
        self.length = padded(max(starts.values()) + padded(max(map(len, self.new))))  # columns that have been cleared
        columns = max(self.length, padded(max(map(len, contexts)) + max_new))
        self.decoder = Decoder.of(model, columns)
        pasts = {number[context]: kept[context[:start]] for context, start in starts.items() if start}
        for i, layer in enumerate(layers):
            layer.open(self.used, columns, self.length, {place: past[i] for place, past in pasts.items()})

    def prefill(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the contexts. Returns the place of each row [rows] and the logits of each place's next token
        [places, vocabulary]."""
        passes, logits = self._passes(), []
        for group in passes:
            new, starts = [self.new[place] for place in group], self.starts[group]
            width, known = padded(max(map(len, new))), int(starts.max())
            ids = torch.tensor([(*part, *(0,) * (width - len(part))) for part in new], device=self.device)
            positions = starts[:, None] + torch.arange(width, device=self.device)
            lasts = torch.tensor([len(part) - 1 for part in new], device=self.device)
            places = torch.tensor(group, device=self.device)
            logits.append(logits_of(self.model, self._forward(places, ids, positions, known + width, lasts)))
        order = torch.tensor([place for group in passes for place in group], device=self.device)
        return self.row_places, torch.cat(logits)[order.argsort()]

    def _passes(self) -> list[list[int]]:
        """The places of each forward pass over contexts: of as many new tokens, and at most `PREFILL_TOKENS` padded
        ones, one context at least."""
        starts, passes = self.starts.tolist(), [[]]
        for place in sorted(range(self.used), key=lambda i: (padded(len(self.new[i])), starts[i])):
            if passes[-1] and (len(passes[-1]) + 1) * padded(len(self.new[place])) > PREFILL_TOKENS:
                passes.append([])
            passes[-1].append(place)
        return passes

    def grow(self, places: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append one token to each row that goes on; `places` and `tokens` are [rows]. Returns as `prefill`."""
        size = self.model.config.vocab_size
        pairs, index = torch.unique(places * size + tokens, return_inverse=True)
        places = self._fork(pairs // size)
        ids = torch.zeros(self.used, 1, dtype=torch.long, device=self.device)
        ids[places, 0] = pairs % size
        positions = self.positions[: self.used, None].clone()
        length = padded(int(positions.max()) + 1)
        if length > self.length:
            for layer in self.layers:
                layer.clear(self.length, length)
            self.length = length
        hidden = self._forward(None, ids, positions, length, torch.zeros_like(ids[:, 0]))
        self.positions += 1
        return places[index], logits_of(self.model, hidden)

    def _fork(self, parents: torch.Tensor) -> torch.Tensor:
        """A place for every sequence of the next step, given the place it continues, sorted [sequences]. The first to
        continue a place stays there and the others get a copy of it. If there are few, those behind their number move
        to the places that are free before it."""
        pack = len(parents) <= KEEP_SHARE * self.used
        moves = parents >= (len(parents) if pack else self.used)
        moves[1:] |= parents[1:] == parents[:-1]
        free = torch.ones(len(self.positions), dtype=torch.bool, device=self.device)
        free[parents[~moves]] = False
        children, moved = parents.clone(), moves.nonzero()[:, 0]
        children[moved] = free.nonzero()[: len(moved), 0]
        self.used = int(children.max()) + 1
        if len(moved):
            sources, targets = parents[moved], children[moved]
            for layer in self.layers:
                layer.copy(sources, targets, self.used, self.length)
            self.positions[targets] = self.positions[sources]
        return children

    def _forward(
        self, at: torch.Tensor | None, ids: torch.Tensor, positions: torch.Tensor, length: int, lasts: torch.Tensor
    ) -> torch.Tensor:
        """Hidden states [places, hidden] of the tokens `lasts` [places] of new tokens [places, tokens], which are at
        `positions` [places, tokens] of the places `at`, of the first ones if that is None. They see the columns up to
        their own, of the first `length`."""
        for layer in self.layers:
            layer.go_to(at, positions, length)
        if self.decoder:
            return self.decoder(ids, positions, length, lasts, self.layers)
        arguments = {"past_key_values": Cache(layers=self.layers), "use_cache": True}
        if length > ids.shape[1]:  # else nothing was there before, and transformers masks what is ahead by itself
            seen = torch.arange(length, device=self.device) <= positions[..., None]
            arguments |= {"attention_mask": seen[:, None], "position_ids": positions}
        return hidden_states(self.model, ids, **arguments)[torch.arange(len(ids), device=self.device), lasts]

    def keys_values(self, place: int) -> KeysValues:
        """Those of the sequence at a place."""
        end = int(self.positions[place])
        return [(layer.keys[place, :, :end].clone(), layer.values[place, :, :end].clone()) for layer in self.layers]
