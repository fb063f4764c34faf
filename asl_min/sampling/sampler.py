"""What the rollout asks of whatever samples tokens: the local model (`generate.Generator`) or a generation server
(`vllm.Vllm`, `tgi.Tgi`). No class inherits from `Sampler`; it only has to have these two methods.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from accelerate import Accelerator
    from peft import PeftModel

    from asl_min.chat import Chat
    from asl_min.config import Config


class Finish(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    """It ends with a stop string."""
    EOS = "eos"
    """It ends with the end-of-turn token."""
    LENGTH = "length"
    """It has as many tokens as were allowed."""


@dataclass(frozen=True)
class Completion:
    """Sampled ids (the stop string or end-of-turn token included) with their log-probabilities, both [length]."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: Finish


@runtime_checkable
class Sampler(Protocol):
    """Writes one completion for each context."""

    def generate(
        self,
        contexts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        max_new: Sequence[int],
        temperature: float,
        known: Sequence[int] | None = None,
    ) -> list[Completion | None]:
        """One completion for each context [rows], in the order given. Each has its own seed and its own limit of new
        tokens, at least 1. `temperature` 0 is greedy.

        `known`: how many of a context's first tokens are a context and its completion of the call before, so that the
        work on them can be used again. Where `known` is given, a row may come back as None: not finished, and to be
        asked for again, with the same context and seed, beside the next turns of the others.
        """
        ...

    def serving(self, adapter: str, base: bool = False) -> AbstractContextManager[None]:
        """Inside, `generate` samples from the present weights of an adapter, which must be the active one, or (`base`)
        from the base model without any."""
        ...


def open_sampler(config: "Config", accelerator: "Accelerator", model: "PeftModel", chat: "Chat") -> Sampler:
    """The sampler that `config.backend` names. Raises `InputError` where the two do not fit, or where a server does not
    answer. The clients are imported only when asked for, since the miniature needs none of their packages."""
    if config.backend == "vllm":
        from asl_min.sampling.vllm import Vllm

        return Vllm(config, accelerator, model, chat)
    if config.backend == "tgi":
        from asl_min.sampling.tgi import Tgi

        return Tgi(config, accelerator, model, chat)
    from asl_min.sampling.generate import Generator

    return Generator(model, chat)
