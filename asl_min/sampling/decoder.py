"""The forward pass of sampling, written out for models of Llama's architecture, Qwen2 among them.

transformers' own pass is general, and half of its time goes into that when a few dozen sequences of a tiny model get
one token each. This one computes the same, up to rounding, with a third of the operations: queries, keys and values in
one product, their rotation in three operations, one mask for all layers, an adapter that is not merged as two small
products. Other models, and quantised ones, are left to transformers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu
from transformers import PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from asl_min.model import padded, plain

Span = tuple[int, int, int]
"""First place, end, and how many columns the places between see."""
SPAN = 8  # places whose attention is computed apart: on a CPU most of its time goes into reading keys and values


@dataclass(frozen=True)
class _Linear:
    """A layer's weight [out, in] and bias [out]; of an adapter that is switched on `down` [rank, in] and `up`
    [rank, out], scaled, both in the weight's format."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    down: torch.Tensor | None = None
    up: torch.Tensor | None = None

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """[tokens, out] of [tokens, in]."""
        found = linear(hidden, self.weight, self.bias)
        return found if self.down is None else found.addmm_(linear(hidden, self.down), self.up)


@dataclass(frozen=True)
class _Block:
    """One layer's weights. `norms`: before attention and before the MLP."""

    norms: tuple[torch.Tensor, torch.Tensor]
    qkv: _Linear
    out: _Linear
    gate: _Linear
    up: _Linear
    down: _Linear


def spans_of(seen: Sequence[int]) -> list[Span]:
    """`SPAN` places each, or more where neighbours see as many columns. `seen`: columns that each place sees."""
    spans: list[Span] = []
    for first in range(0, len(seen), SPAN):
        end, most = min(first + SPAN, len(seen)), padded(max(seen[first : first + SPAN]))
        if spans and spans[-1][2] == most:
            first = spans.pop()[0]
        spans.append((first, end, most))
    return spans


class Decoder:
    """A model's decoder with the weights that it has now. `length`: positions are below it."""

    def __init__(self, model: PreTrainedModel | PeftModel, length: int):
        inner = plain(model).get_decoder()
        config, positions = inner.config, torch.arange(length, device=model.device)
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.embedding, self.norm, self.eps = inner.embed_tokens.weight, inner.norm.weight, config.rms_norm_eps
        self.blocks = [_block(layer) for layer in inner.layers]
        cos, sin = inner.rotary_emb(self.embedding, positions[None])  # [1, length, head dim]
        self.cos, self.sin, self.half = cos[0], sin[0].clone(), cos.shape[-1] // 2
        self.sin[:, : self.half] *= -1

    @classmethod
    def of(cls, model: PreTrainedModel | PeftModel, length: int) -> "Decoder | None":
        """None where this is not how the model computes."""
        config, decoder = model.config, plain(model).get_decoder()
        known = (
            config.model_type in ("llama", "qwen2")
            and config.hidden_act == "silu"
            and config.rope_parameters["rope_type"] == "default"
            and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        )
        return cls(model, length) if known and _is_known(decoder) else None

    def __call__(
        self, ids: torch.Tensor, positions: torch.Tensor, length: int, lasts: torch.Tensor, cache: list[CacheLayerMixin]
    ) -> torch.Tensor:
        """Hidden states [places, hidden] of one token a place, `lasts` [places], of ids [places, tokens]. The tokens
        are at `positions` [places, tokens] and see the columns of the cache up to their own, of the first `length`; if
        there are only as many columns as tokens, nothing was there before."""
        places, tokens = ids.shape
        rows, columns = torch.arange(places, device=ids.device), torch.arange(length, device=ids.device)
        cos, sin = self.cos[positions][:, :, None], self.sin[positions][:, :, None]  # [places, tokens, 1, head dim]
        mask = None if length == tokens else self._mask(columns <= positions[..., None])
        apart = tokens == 1 and ids.device.type == "cpu"
        spans = spans_of((positions[:, 0] + 1).tolist()) if apart else [(0, places, length)]
        hidden = self.embedding[ids.flatten()]  # [places x tokens, hidden]
        for block, layer in zip(self.blocks, cache, strict=True):
            qkv = block.qkv(self._normed(hidden, block.norms[0])).view(places, tokens, -1, 2 * self.half)
            qk, value = qkv.split((self.heads + self.kv_heads, self.kv_heads), 2)
            qk = torch.addcmul(qk * cos, qk.roll(self.half, -1), sin)
            query, key = qk.split((self.heads, self.kv_heads), 2)
            keys, values = layer.update(key.transpose(1, 2), value.transpose(1, 2))
            if block is self.blocks[-1] and tokens > 1:  # of the other tokens only keys and values are needed
                hidden, query = hidden.view(places, tokens, -1)[rows, lasts], query[rows, lasts, None]
                mask = self._mask(columns <= positions[rows, lasts, None, None])
            hidden = hidden + block.out(self._attention(query, keys, values, mask, spans))
            normed = self._normed(hidden, block.norms[1])
            hidden = hidden + block.down(silu(block.gate(normed)).mul_(block.up(normed)))
        return self._normed(hidden, self.norm)

    def _mask(self, seen: torch.Tensor) -> torch.Tensor:
        """What is added to the scores, [places, 1, tokens, columns], of `seen` [places, tokens, columns]."""
        return self.norm.new_zeros(seen.shape).masked_fill_(~seen, -torch.inf)[:, None]

    def _normed(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return rms_norm(hidden, weight.shape, weight, self.eps)

    def _attention(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor | None,
        spans: Sequence[Span],
    ) -> torch.Tensor:
        """[places x tokens, hidden] of query [places, tokens, heads, head dim]. Of single tokens, the heads that share
        a key head are the rows of one product, and places that see fewer columns are computed apart."""
        places, tokens, _, width = query.shape
        if tokens == 1:
            query = query.reshape(places, self.kv_heads, -1, width)
            found = [
                scaled_dot_product_attention(
                    query[first:end],
                    keys[first:end, :, :seen],
                    values[first:end, :, :seen],
                    mask[first:end, ..., :seen],
                )
                for first, end, seen in spans
            ]
            return torch.cat(found).reshape(places, -1)
        query, causal = query.transpose(1, 2), mask is None
        found = scaled_dot_product_attention(query, keys, values, mask, is_causal=causal, enable_gqa=True)
        return found.transpose(1, 2).reshape(places * tokens, -1)


def _block(layer: nn.Module) -> _Block:
    attention, mlp = layer.self_attn, layer.mlp
    return _Block(
        (layer.input_layernorm.weight, layer.post_attention_layernorm.weight),
        _joined([_linear(module) for module in (attention.q_proj, attention.k_proj, attention.v_proj)]),
        *map(_linear, (attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)),
    )


def _linear(module: nn.Module) -> _Linear:
    base = module.get_base_layer() if isinstance(module, LoraLayer) else module
    if not (names := _active(module)):
        return _Linear(base.weight, base.bias)
    down, up = module.lora_A[names[0]].weight, module.lora_B[names[0]].weight.T * module.scaling[names[0]]
    return _Linear(base.weight, base.bias, down.to(base.weight), up.to(base.weight))


def _joined(layers: Sequence[_Linear]) -> _Linear:
    """The layer whose outputs are those of all, one behind the other. A layer without an adapter has one of rank 0."""
    weight, biases = torch.cat([layer.weight for layer in layers]), [layer.bias for layer in layers]
    bias = None if biases[0] is None else torch.cat(biases)
    if all(layer.down is None for layer in layers):
        return _Linear(weight, bias)
    none = [(weight.new_empty(0, weight.shape[1]), weight.new_empty(0, len(layer.weight))) for layer in layers]
    pairs = [empty if layer.down is None else (layer.down, layer.up) for layer, empty in zip(layers, none, strict=True)]
    downs, ups = zip(*pairs, strict=True)
    return _Linear(weight, bias, torch.cat(downs), torch.block_diag(*ups))


def _active(module: nn.Module) -> list[str]:
    """The adapters of a layer that are switched on."""
    if not isinstance(module, LoraLayer) or module.disable_adapters:
        return []
    return [name for name in module.active_adapters if name in module.lora_A]


def _is_known(decoder: nn.Module) -> bool:
    """Are the layers plain, their weights in one format that is computed in, and adapters such as `load_backbone`
    makes, one at a time?"""
    layers = [module for module in decoder.modules() if isinstance(module, nn.Linear)]
    formats = {weight.dtype for name, weight in decoder.named_parameters() if "lora_" not in name}
    active = [(module, names) for module in decoder.modules() if (names := _active(module))]
    return (
        all(type(layer) is nn.Linear for layer in layers)  # a quantised layer has weights of any format
        and formats in ({torch.float32}, {torch.bfloat16})
        and all(len(names) == 1 and _is_plain(module, names[0]) for module, names in active)
    )


def _is_plain(module: LoraLayer, name: str) -> bool:
    return name not in module.lora_variant and module.lora_B[name].bias is None
