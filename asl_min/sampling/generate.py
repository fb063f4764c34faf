"""Generation: token ids in; token ids, log-probabilities and a stop reason out.

`generate` takes contexts and returns one `Completion` each, for any Hugging Face causal LM. Each context's samples are
drawn from its own seed by inverting the cumulative distribution, so a completion depends neither on its batch nor on
the process. What samples have in common from the start is computed once (`histories.py`), and the work on a finished
turn is kept until the next call, so that an episode's next turn begins with the tool's response, not with the whole
context.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from transformers import PreTrainedModel

from asl_min.chat import Chat
from asl_min.protocol import STOP_STRINGS
from asl_min.sampling.prefix_cache import Histories, KeysValues, PlaceLayer

TAIL = 24  # tokens decoded to look for a stop string


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


class Generator:
    """Samples from a model with a key-value cache."""

    def __init__(self, model: PreTrainedModel, chat: Chat):
        self.model, self.chat = model, chat
        pieces = chat.tokenizer.batch_decode([[i] for i in range(len(chat.tokenizer))], skip_special_tokens=False)
        self._may_end = torch.zeros(max(len(pieces), model.config.vocab_size), dtype=torch.bool)
        self._may_end[: len(pieces)] = torch.tensor([">" in piece for piece in pieces])
        self._may_end[list(chat.eos_ids)] = True
        self._kept: dict[tuple[int, ...], KeysValues] = {}
        self._layers: list[PlaceLayer] = []

    def forget(self) -> None:
        """Drop what is kept for the next turn; due when the episodes are over, and before the weights change. A GPU's
        memory is given back too."""
        self._kept = {}
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
    ) -> list[Completion]:
        """One completion a context, in the order given, all in one batch. `temperature` 0 is greedy; `max_new` tokens
        at most, each at least 1.

        `known`: how many of a context's first tokens are a context and completion of the call before, whose work is
        then not done again.
        """
        if not contexts:
            return []
        kept, self._kept = self._kept, {}
        self._layers = self._layers or [PlaceLayer() for _ in range(self.model.config.num_hidden_layers)]
        histories = Histories(
            self.model, self._layers, list(map(tuple, contexts)), known or [0] * len(contexts), kept, max(max_new)
        )
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
            for i, (row, token, logprob, check) in enumerate(
                zip(running, tokens.tolist(), token_logprobs.tolist(), may_end, strict=True)
            ):
                ids[row].append(token)
                logprobs[row].append(logprob)
                end = turn_end(self.chat, ids[row]) if check else None
                if end:
                    if (history := (*contexts[row], *ids[row][:-1])) not in self._kept:
                        self._kept[history] = histories.keys_values(int(places[i]))
                    ended[row], ids[row][-1:] = end
                    logprobs[row] += [0.0] * (len(ids[row]) - len(logprobs[row]))
                elif len(ids[row]) < max_new[row]:
                    going.append(i)
            if not going:
                break
            running = [running[i] for i in going]
            places, logits = histories.grow(places[going], tokens[going])
        return [Completion(tuple(i), tuple(lp), e) for i, lp, e in zip(ids, logprobs, ended, strict=True)]


def turn_end(chat: Chat, ids: Sequence[int]) -> tuple[Ended, list[int]] | None:
    """How the last of a turn's sampled ids ends it, if it does, and the ids that then stand in its place.

    These are mostly itself. A token may carry text past the stop string, such as ">" and an empty line: white space is
    left there; of other text it is replaced by the ids of its part up to the stop string, the first of which keeps its
    log-probability (the others have 0).
    """
    if ids[-1] in chat.eos_ids:
        return Ended.EOS, [ids[-1]]
    text = chat.decode(ids[-TAIL:])
    ends = [text.index(stop) + len(stop) for stop in STOP_STRINGS if stop in text]
    if not ends:
        return None
    rest, piece = text[min(ends) :], chat.decode(ids[-1:])
    glued = rest.strip() and piece.endswith(rest)
    return Ended.STOP, chat.plain(piece.removesuffix(rest)) if glued else [ids[-1]]


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
