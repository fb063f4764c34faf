"""Episodes into the batches of one forward and backward pass. Episodes of a prompt that begin alike form a tree, so
that their common part is computed once; a mask lets each token see its own episode only. Loss and gradient are the same
as those of separate episodes.

Two episodes 5 6 7 and 5 6 8 9 become one sequence of five nodes:

    node     0  1  2  3  4
    id       5  6  7  8  9
    depth    0  1  2  2  3      the position in the episode
    end      5  5  3  5  5      one past the node's subtree; node j sees node i if i <= j < end of i
    path     of 5 6 7: 0 1 2    of 5 6 8 9: 0 1 3 4
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
import torch

from asl_min.episode import Episode
from asl_min.model import padded


@dataclass
class Tree:
    """Episodes as one sequence in which their common beginning occurs once. Nodes are in preorder; one episode is a
    chain."""

    ids: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    """One past the last node of each node's subtree."""
    paths: list[tuple[Episode, list[int]]] = field(default_factory=list)
    """Each episode with its nodes, one a token."""

    def shared(self, episode: Episode) -> int:
        """How many tokens the episode has in common with the last one added, from the start."""
        last = self.paths[-1][0]
        same = (a == b for a, b in zip(_keys(last), _keys(episode), strict=False))
        return sum(1 for _ in takewhile(bool, same))

    def add(self, episode: Episode, shared: int) -> None:
        """Adds an episode that shares its first tokens with the last one added. Episodes must come sorted by tokens."""
        path = self.paths[-1][1][:shared] if self.paths else []
        start = len(self.ids)
        new = list(range(start, start + len(episode.ids) - shared))
        self.ids += episode.ids[shared:]
        self.depths += range(shared, len(episode.ids))
        self.ends += [0] * len(new)
        self.paths.append((episode, path + new))
        for node in path + new:
            self.ends[node] = len(self.ids)


def _keys(episode: Episode) -> zip:
    """What makes tokens the same node: id, and whether it was sampled."""
    return zip(episode.ids, episode.mask, strict=True)


def trees(episodes: Sequence[Episode], max_nodes: int) -> list[Tree]:
    """The episodes in trees of at most `max_nodes` nodes. An episode joins a tree that has at least half of its tokens
    already."""
    found: list[Tree] = []
    for episode in sorted(episodes, key=lambda e: tuple(_keys(e))):
        shared = found[-1].shared(episode) if found else 0
        if 2 * shared < len(episode.ids) or len(found[-1].ids) + len(episode.ids) - shared > max_nodes:
            found.append(Tree())
            shared = 0
        found[-1].add(episode, shared)
    return found


@dataclass(frozen=True)
class MicroBatch:
    """Trees of like length that are scored together, padded on the right."""

    ids: torch.Tensor
    """[trees, length]"""
    depths: torch.Tensor
    """[trees, length], the position of each node in its episodes"""
    ends: torch.Tensor | None
    """[trees, length], see `Tree`; None if all are chains"""
    nodes: torch.Tensor
    """[nodes], the sampled ones, as places in the flattened `ids`"""
    parents: torch.Tensor
    """[nodes], the place of the node before each"""
    token_nodes: torch.Tensor
    """[sampled tokens], which of `nodes` each token is"""
    advantages: torch.Tensor
    """[sampled tokens]"""
    sampler_logprobs: torch.Tensor
    """[sampled tokens]"""
    old_logprobs: torch.Tensor | None = None
    """[sampled tokens], the trainer's before the first optimizer step on this batch"""


def micro_batches(episodes: Sequence[Episode], max_tokens: int) -> list[MicroBatch]:
    """Trees of the episodes sorted by length and cut so that each micro-batch pads to at most `max_tokens` (one tree at
    least)."""
    found: list[list[Tree]] = []
    for tree in sorted(trees(episodes, max_tokens), key=lambda t: (len(t.paths) > 1, -len(t.ids))):
        length = padded(len(found[-1][0].ids)) if found else 0
        alike = found and (len(found[-1][0].paths) > 1) == (len(tree.paths) > 1)
        if not alike or (len(found[-1]) + 1) * length > max_tokens:
            found.append([])
        found[-1].append(tree)
    return [_collate(batch) for batch in found]


def _collate(batch: list[Tree]) -> MicroBatch:
    length = padded(len(batch[0].ids))
    ids = np.zeros((len(batch), length), dtype=np.int64)
    # Positions go on over the padding: transformers would take a restart at 0 for the start of a packed sequence.
    depths = np.tile(np.arange(length), (len(batch), 1))
    ends = depths + 1
    nodes, parents, advantages, logprobs = [], [], [], []
    for row, tree in enumerate(batch):
        size = len(tree.ids)
        ids[row, :size], depths[row, :size], ends[row, :size] = tree.ids, tree.depths, tree.ends
        for episode, path in tree.paths:
            places = np.array(path) + row * length
            sampled = np.flatnonzero(episode.mask[1:]) + 1
            nodes.append(places[sampled])
            parents.append(places[sampled - 1])
            advantages.append(np.full(len(sampled), episode.advantage))
            logprobs.append(np.array(episode.logprobs)[sampled])
    distinct, first, token_nodes = np.unique(np.concatenate(nodes), return_index=True, return_inverse=True)
    tensors = [torch.from_numpy(x) for x in (ids, depths, ends, distinct, np.concatenate(parents)[first], token_nodes)]
    if all(len(tree.paths) == 1 for tree in batch):
        tensors[2] = None
    return MicroBatch(*tensors, *(torch.from_numpy(np.concatenate(x)).float() for x in (advantages, logprobs)))
