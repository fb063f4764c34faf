"""The key-value cache of a batch being sampled.

Samples of one prompt are often the same for many tokens; what they have in common is computed once. Each distinct
sequence so far has one place (a row of the cache). Rows of the batch that are still equal share a place, and the place
forks when they differ.

Two samples of the prompt 5 6 7, at most 3 new tokens (a prompt is padded to 16 columns, then each step has its own):

    prefill              place 0: 5 6 7      columns 0 to 2; the padding, 3 to 15, is masked
    both rows draw 8     place 0: 5 6 7 8    column 16; one forward pass of one token for both rows
    they draw 4 and 9    place 0: 5 6 7 8 4  place 0 forks: its columns 0 to 16 are copied to place 1,
                         place 1: 5 6 7 8 9  then the forward pass fills column 17 of both
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
PREFILL_TOKENS = 4096  # of one forward pass over contexts: more would leave the processor's caches

KeysValues = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of one sequence, each [heads, tokens, head dim], for every layer."""


class CacheLayer(CacheLayerMixin):
    """Keys and values of one decoder layer, both [places, heads, columns, head dim], of which `length` columns are
    filled. A forward pass covers consecutive places, from `first` on, and fills the next columns of these.

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
        self.first = self.length = 0
        self.is_initialized = False

    def lazy_initialization(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self._allocate(keys, values)
        for block in (self.keys, self.values):
            block[:, :, : self.prompts] = 0  # masked columns have weight 0, but 0 times NaN would be NaN
        for place, past in self.pasts.items():
            self.keys[place, :, : past[0].shape[1]], self.values[place, :, : past[1].shape[1]] = past
        self.is_initialized = True

    def _allocate(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Make `self.keys` and `self.values` hold `self.places` places; what they hold already stays."""
        for name, like in (("keys", keys), ("values", values)):
            shape = (self.places, like.shape[1], self.columns, like.shape[-1])
            memory, wanted = self._memory.get(name, like.new_empty(0)), math.prod(shape)
            if memory.numel() < wanted:
                self._memory[name] = torch.cat([memory, memory.new_zeros(wanted - memory.numel())])
            setattr(self, name, self._memory[name][:wanted].view(shape))

    def update(self, keys: torch.Tensor, values: torch.Tensor, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values [places of the pass, heads, tokens, head dim]; return all there are for these."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        rows, end = slice(self.first, self.first + len(keys)), self.length + keys.shape[-2]
        self.keys[rows, :, self.length : end] = keys
        self.values[rows, :, self.length : end] = values
        self.length = end
        return self.keys[rows, :, :end], self.values[rows, :, :end]

    def copy(self, sources: torch.Tensor, targets: torch.Tensor, places: int) -> None:
        """Copy the places `sources` to `targets`, after making room for at least `places` places."""
        if places > self.places:
            self.places = max(places, 2 * self.places)
            self._allocate(self.keys, self.values)
        for block in (self.keys, self.values):
            block[targets, :, : self.length] = block[sources, :, : self.length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.columns


class PrefixCache:
    """The distinct sequences of a batch. Columns, in this order: tokens known from the call before, the other tokens of
    the contexts, one column for each step.

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
        order = sorted(starts, key=lambda context: len(context) - starts[context])
        number = {context: place for place, context in enumerate(order)}
        self.row_places = torch.tensor([number[context] for context in contexts], device=self.device)
        self.new = [context[starts[context] :] for context in order]  # tokens to be computed; the longest come last
        self.used, self.known, width = len(order), padded(max(starts.values())), padded(len(self.new[-1]))
        self.starts = torch.tensor([starts[context] for context in order], device=self.device)
        self.lasts = torch.tensor([len(part) - 1 for part in self.new], device=self.device)
        self.length, columns = self.known + width, self.known + width + max_new
        self.decoder = Decoder.of(model, columns)
        self.positions = torch.zeros(len(contexts), dtype=torch.long, device=self.device)  # of a place's next token
        self.positions[: self.used] = self.starts + self.lasts + 1
        self.seen = torch.zeros(len(contexts), columns, dtype=torch.bool, device=self.device)  # False: padding
        self.seen[: self.used, : self.known] = torch.arange(self.known, device=self.device) < self.starts[:, None]
        new_seen = torch.arange(width, device=self.device) <= self.lasts[:, None]
        self.seen[: self.used, self.known : self.length] = new_seen
        pasts = {number[context]: kept[context[:start]] for context, start in starts.items() if start}
        for i, layer in enumerate(layers):
            layer.open(self.used, columns, self.length, {place: past[i] for place, past in pasts.items()})

    def prefill(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the contexts. Returns the place of each row [rows] and the logits of each place's next token
        [places, vocabulary]."""
        size, logits = max(PREFILL_TOKENS // (self.length - self.known), 1), []
        for first in range(0, self.used, size):
            places = slice(first, min(first + size, self.used))
            new, mask, positions = self.new[places], None, None
            width = padded(len(new[-1]))
            ids = torch.tensor([(*part, *(0,) * (width - len(part))) for part in new], device=self.device)
            if self.known:
                causal = torch.ones(width, self.known + width, dtype=torch.bool, device=self.device).tril(self.known)
                mask = self.seen[places, None, None, : self.known + width] & causal
                positions = self.starts[places, None] + torch.arange(width, device=self.device)
            hidden = self._forward(first, self.known, ids, mask, positions)
            last = hidden[torch.arange(len(new), device=self.device), self.lasts[places]]
            logits.append(logits_of(self.model, last))
        return self.row_places, torch.cat(logits)

    def grow(self, places: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append one token to each row that goes on; `places` and `tokens` are [rows]. Returns as `prefill`."""
        size = self.model.config.vocab_size
        pairs, index = torch.unique(places * size + tokens, return_inverse=True)
        places = self._fork(pairs // size)
        ids = torch.zeros(self.used, 1, dtype=torch.long, device=self.device)
        ids[places, 0] = pairs % size
        self.seen[: self.used, self.length] = True
        mask, positions = self.seen[: self.used, None, None, : self.length + 1], self.positions[: self.used, None]
        hidden = self._forward(0, self.length, ids, mask, positions.clone())
        self.length += 1
        self.positions += 1
        return places[index], logits_of(self.model, hidden[:, 0])

    def _fork(self, parents: torch.Tensor) -> torch.Tensor:
        """A place for every sequence of the next step, given the place it continues, sorted [sequences]. The first to
        continue a place stays there and the others get a copy of it, or all are packed into the first places."""
        if len(parents) <= KEEP_SHARE * self.used:
            self.used = len(parents)
            children = torch.arange(self.used, device=self.device)
        else:
            later = torch.zeros_like(parents, dtype=torch.bool)
            later[1:] = parents[1:] == parents[:-1]
            free = torch.ones(len(self.positions), dtype=torch.bool, device=self.device)
            free[parents] = False
            children = parents.clone()
            children[later] = free.nonzero()[: int(later.sum()), 0]
            self.used = int(children.max()) + 1
        moved = (children != parents).nonzero()[:, 0]
        if len(moved):
            sources, targets = parents[moved], children[moved]
            for layer in self.layers:
                layer.copy(sources, targets, self.used)
            self.seen[targets], self.positions[targets] = self.seen[sources], self.positions[sources]
        return children

    def _forward(
        self, first: int, length: int, ids: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor | None
    ) -> torch.Tensor:
        """Hidden states [places, tokens, hidden] of new tokens [places, tokens] of consecutive places from `first` on;
        their keys and values go to the columns from `length` on."""
        for layer in self.layers:
            layer.first, layer.length = first, length
        if self.decoder:
            return self.decoder(ids, positions, mask, self.layers)
        arguments = {"attention_mask": mask, "position_ids": positions, "past_key_values": Cache(layers=self.layers)}
        return hidden_states(self.model, ids, use_cache=True, **arguments)

    def keys_values(self, place: int) -> KeysValues:
        """Those of the sequence at a place, without the padding."""
        columns = self.seen[place, : self.length].nonzero()[:, 0]
        return [(layer.keys[place][:, columns], layer.values[place][:, columns]) for layer in self.layers]
