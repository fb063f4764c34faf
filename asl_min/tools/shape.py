"""The sizes of a base model, for `plan`: from its own config.json, or built in for those that the shipped configs
name."""

from dataclasses import dataclass

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from asl_min.config import Config
from asl_min.model import empty_base

SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
    "tie_word_embeddings",
)
QWEN = {
    "Qwen/Qwen2.5-0.5B-Instruct": (896, 24, 14, 2, 4864, 151936, True),
    "Qwen/Qwen2.5-3B-Instruct": (2048, 36, 16, 2, 11008, 151936, True),
    "Qwen/Qwen2.5-7B-Instruct": (3584, 28, 28, 4, 18944, 152064, False),
}
"""`SIZES` of the bases of the shipped configs, as published in their config.json; all read 32,768 positions and have
biases on queries, keys and values (which `Qwen2ForCausalLM` always has)."""


@dataclass(frozen=True)
class Shape:
    """What the formulas need to know of a model: its sizes, and the number of parameters in the blocks' linear layers,
    in everything else and in one adapter."""

    layers: int
    hidden: int
    queries: int
    keys: int
    mlp: int
    vocab: int
    positions: int
    linear: int
    other: int
    lora: int


def read_shape(config: Config) -> Shape:
    """The shape of the config's base model. Raises `InputError` if it is not built in and cannot be read."""
    if not is_built_in(config):
        return shape_of(empty_base(config), config.lora_rank)
    sizes = dict(zip(SIZES, QWEN[config.base_model], strict=True))
    with torch.device("meta"):
        base = Qwen2ForCausalLM(Qwen2Config(**sizes, max_position_embeddings=32768))
    return shape_of(base, config.lora_rank)


def is_built_in(config: Config) -> bool:
    """Whether the base's sizes come from `QWEN`: its own config.json is neither in a folder nor in the hub's cache."""
    name = config.base_model
    if name not in QWEN or config.path(name).is_dir():
        return False
    return not isinstance(try_to_load_from_cache(name, "config.json"), str)


def shape_of(whole: PreTrainedModel, rank: int) -> Shape:
    """The shape of a model with LoRA adapters of this rank."""
    model = whole.config
    linears = [
        m
        for name, m in whole.named_modules()
        if isinstance(m, torch.nn.Linear) and m is not whole.get_output_embeddings()
    ]
    linear = sum(m.weight.numel() for m in linears)
    head = getattr(model, "head_dim", None) or model.hidden_size // model.num_attention_heads
    queries, keys = head * model.num_attention_heads, head * model.num_key_value_heads
    lora = rank * sum(m.in_features + m.out_features for m in linears)
    sizes = (
        model.num_hidden_layers,
        model.hidden_size,
        queries,
        keys,
        model.intermediate_size,
        model.vocab_size,
        model.max_position_embeddings,
    )
    return Shape(*sizes, linear, sum(p.numel() for p in whole.parameters()) - linear, lora)
