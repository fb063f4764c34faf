"""The key-value cache of a batch being sampled. Samples of one prompt often say the same for a long while: what rows
have in common from the start, a history, has one place in the cache and is computed once; the place forks when the rows
part.
"""

import math
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from asl_min.model import hidden_states, logits_of, padded

KEEP_SHARE = 0.75  # the cache is packed when at most this share of its places is still in use
PREFILL_TOKENS = 4096  # of one forward pass over contexts: more would leave the processor's caches

KeysValues = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of one history, each [heads, tokens, head dim], for every layer."""


class PlaceLayer(CacheLayerMixin):
    """Keys and values of one layer, [places, heads, columns, head dim], of which `length` columns are filled. A forward
    pass is over consecutive places from `first`. A place may start with the keys and values of a `past`.

    Each batch is opened anew in the memory of the one before: to get as much from the system every time takes as long
    as the forward passes.
    """

    def __init__(self):
        super().__init__()
        self._memory: dict[str, torch.Tensor] = {}

    def open(
        self, places: int, columns: int, prompts: int, pasts: dict[int, tuple[torch.Tensor, torch.Tensor]]
    ) -> None:
        """`prompts`: the first columns, not all of which every place fills."""
        self.places, self.columns, self.prompts, self.pasts = places, columns, prompts, pasts
        self.first = self.length = 0
        self.is_initialized = False

    def lazy_initialization(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self._room(keys, values)
        for block in (self.keys, self.values):
            block[:, :, : self.prompts] = 0  # what is masked counts 0 times, but must be a number
        for place, past in self.pasts.items():
            self.keys[place, :, : past[0].shape[1]], self.values[place, :, : past[1].shape[1]] = past
        self.is_initialized = True

    def _room(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """`self.keys` and `self.values` for all places, at the start of a memory that grows where it must; what is
        there stays."""
        for name, like in (("keys", keys), ("values", values)):
            shape = (self.places, like.shape[1], self.columns, like.shape[-1])
            memory, wanted = self._memory.get(name, like.new_empty(0)), math.prod(shape)
            if memory.numel() < wanted:
                self._memory[name] = torch.cat([memory, memory.new_zeros(wanted - memory.numel())])
            setattr(self, name, self._memory[name][:wanted].view(shape))

    def update(self, keys: torch.Tensor, values: torch.Tensor, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        rows, end = slice(self.first, self.first + len(keys)), self.length + keys.shape[-2]
        self.keys[rows, :, self.length : end] = keys
        self.values[rows, :, self.length : end] = values
        self.length = end
        return self.keys[rows, :, :end], self.values[rows, :, :end]

    def copy(self, sources: torch.Tensor, targets: torch.Tensor, places: int) -> None:
        """Copy places, after making room for at least `places` of them."""
        if places > self.places:
            self.places = max(places, 2 * self.places)
            self._room(self.keys, self.values)
        for block in (self.keys, self.values):
            block[targets, :, : self.length] = block[sources, :, : self.length]

    def of(self, place: int, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.keys[place][:, columns], self.values[place][:, columns]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.columns


class Histories:
    """The distinct histories of a batch. Columns of the cache: what was known before, the rest of the contexts, then
    one a step.

    `layers` are the model's, used again batch after batch. `known`: how many of a context's first tokens are in `kept`,
    whose keys are histories without their last token.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        layers: list[PlaceLayer],
        contexts: list[tuple[int, ...]],
        known: Sequence[int],
        kept: dict[tuple[int, ...], KeysValues],
        max_new: int,
    ):
        self.model, self.device, self.layers = model, model.device, layers
        starts = {
            context: n - 1 if n and context[: n - 1] in kept else 0 for context, n in zip(contexts, known, strict=True)
        }
        order = sorted(starts, key=lambda context: len(context) - starts[context])
        number = {context: place for place, context in enumerate(order)}
        self.row_places = torch.tensor([number[context] for context in contexts], device=self.device)
        self.new = [context[starts[context] :] for context in order]
        self.used, self.known, chunk = len(order), padded(max(starts.values())), padded(len(self.new[-1]))
        self.starts = torch.tensor([starts[context] for context in order], device=self.device)
        self.lasts = torch.tensor([len(part) - 1 for part in self.new], device=self.device)
        self.length, columns = self.known + chunk, self.known + chunk + max_new
        self.positions = torch.zeros(len(contexts), dtype=torch.long, device=self.device)  # of the next token, a place
        self.positions[: self.used] = self.starts + self.lasts + 1
        self.seen = torch.zeros(len(contexts), columns, dtype=torch.bool, device=self.device)
        self.seen[: self.used, : self.known] = torch.arange(self.known, device=self.device) < self.starts[:, None]
        self.seen[: self.used, self.known : self.length] = (
            torch.arange(chunk, device=self.device) <= self.lasts[:, None]
        )
        pasts = {number[context]: kept[context[:start]] for context, start in starts.items() if start}
        for i, layer in enumerate(layers):
            layer.open(self.used, columns, self.length, {place: past[i] for place, past in pasts.items()})

    def prefill(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The place of each row's history [rows], and the logits [places, vocabulary] after each history."""
        size = max(PREFILL_TOKENS // (self.length - self.known), 1)
        logits = [self._prefill(slice(first, min(first + size, self.used))) for first in range(0, self.used, size)]
        return self.row_places, torch.cat(logits)

    def _prefill(self, places: slice) -> torch.Tensor:
        """Logits [places, vocabulary] after some of the histories."""
        new = self.new[places]
        chunk, mask, positions = padded(len(new[-1])), None, None
        ids = torch.tensor([(*part, *(0,) * (chunk - len(part))) for part in new], device=self.device)
        if self.known:
            causal = torch.ones(chunk, self.known + chunk, dtype=torch.bool, device=self.device).tril(self.known)
            mask = self.seen[places, None, None, : self.known + chunk] & causal
            positions = self.starts[places, None] + torch.arange(chunk, device=self.device)
        hidden = self._forward(places.start, self.known, ids, mask, positions)
        return logits_of(self.model, hidden[torch.arange(len(new), device=self.device), self.lasts[places]])

    def _forward(
        self, first: int, length: int, ids: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor | None
    ) -> torch.Tensor:
        """Hidden states of new tokens of consecutive places; their keys and values go to the columns from `length`."""
        for layer in self.layers:
            layer.first, layer.length = first, length
        return hidden_states(
            self.model,
            ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=Cache(layers=self.layers),
            use_cache=True,
        )

    def grow(self, places: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each row, given by the place of its history [rows], gets one more token [rows]. Returns as `prefill`."""
        size = self.model.config.vocab_size
        pairs, index = torch.unique(places * size + tokens, return_inverse=True)
        places = self._fork(pairs // size)
        ids = torch.zeros(self.used, 1, dtype=torch.long, device=self.device)
        ids[places, 0] = pairs % size
        self.seen[: self.used, self.length] = True
        mask, positions = (
            self.seen[: self.used, None, None, : self.length + 1],
            self.positions[: self.used, None].clone(),
        )
        hidden = self._forward(0, self.length, ids, mask, positions)
        self.length += 1
        self.positions += 1
        return places[index], logits_of(self.model, hidden[:, 0])

    def _fork(self, parents: torch.Tensor) -> torch.Tensor:
        """A place for every child of the histories at `parents` (sorted): the parent's own for its first child, a free
        one for the others."""
        if len(parents) <= KEEP_SHARE * self.used:
            self.used = len(parents)
            children = torch.arange(self.used, device=self.device)
            self._copy(parents, children)
            return children
        later = torch.zeros_like(parents, dtype=torch.bool)
        later[1:] = parents[1:] == parents[:-1]
        free = torch.ones(len(self.positions), dtype=torch.bool, device=self.device)
        free[parents] = False
        children = parents.clone()
        children[later] = free.nonzero()[: int(later.sum()), 0]
        self.used = int(children.max()) + 1
        self._copy(parents[later], children[later])
        return children

    def _copy(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        for layer in self.layers:
            layer.copy(sources, targets, self.used)
        self.seen[targets], self.positions[targets] = self.seen[sources], self.positions[sources]

    def keys_values(self, place: int) -> KeysValues:
        """Of the history at a place, without gaps."""
        columns = self.seen[place, : self.length].nonzero()[:, 0]
        return [layer.of(place, columns) for layer in self.layers]
