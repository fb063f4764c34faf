"""The forward pass of sampling, written out for models of Llama's architecture, Qwen2 among them.

transformers' own pass is general, and half of its time goes into that when a few dozen sequences of a tiny model get
one token each. This one computes the same, up to rounding, with a third of the operations: queries, keys and values in
one product, their rotation in three operations, one mask for all layers. Other models, and layers whose adapter is not
merged, are left to transformers.
"""

from dataclasses import dataclass

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu
from transformers import PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from asl_min.model import plain

Affine = tuple[torch.Tensor, torch.Tensor | None]
"""Weight [out, in] and bias [out] of a linear layer."""


@dataclass(frozen=True)
class _Block:
    """One layer's weights. `norms`: before attention and before the MLP."""

    norms: tuple[torch.Tensor, torch.Tensor]
    qkv: Affine
    out: Affine
    gate: Affine
    up: Affine
    down: Affine


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
        return cls(model, length) if known and all(map(_is_plain, decoder.layers.modules())) else None

    def __call__(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor | None,
        mask: torch.Tensor | None,
        cache: list[CacheLayerMixin],
    ) -> torch.Tensor:
        """Hidden states [places, tokens, hidden] of ids [places, tokens]. `positions`: [places, tokens], None: from 0
        on. `mask`: which columns of the cache a token sees, [places, 1, 1 or tokens, columns]; None: those up to its
        own."""
        places, tokens = ids.shape
        positions = torch.arange(tokens, device=ids.device)[None] if positions is None else positions
        cos, sin = (
            self.cos[positions][:, :, None],
            self.sin[positions][:, :, None],
        )  # [places, tokens, 1, head]
        if mask is not None:
            mask = torch.zeros_like(mask, dtype=self.cos.dtype).masked_fill_(~mask, -torch.inf)
        hidden = self.embedding[ids.flatten()]  # [places x tokens, hidden]
        for block, layer in zip(self.blocks, cache, strict=True):
            qkv = linear(self._normed(hidden, block.norms[0]), *block.qkv).view(places, tokens, -1, 2 * self.half)
            qk, value = qkv.split((self.heads + self.kv_heads, self.kv_heads), 2)
            qk = torch.addcmul(qk * cos, qk.roll(self.half, -1), sin)
            query, key = qk.transpose(1, 2).split((self.heads, self.kv_heads), 1)
            seen = self._attention(query, *layer.update(key, value.transpose(1, 2)), mask)
            hidden = hidden + linear(seen.reshape(places * tokens, -1), *block.out)
            normed = self._normed(hidden, block.norms[1])
            hidden = hidden + linear(silu(linear(normed, *block.gate)) * linear(normed, *block.up), *block.down)
        return self._normed(hidden, self.norm).view(places, tokens, -1)

    def _normed(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return rms_norm(hidden, weight.shape, weight, self.eps)

    def _attention(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """[places, tokens, heads, head dim] of query [places, heads, tokens, head dim]. Of single tokens, the heads
        that share a key head are the rows of one product."""
        places, _, tokens, width = query.shape
        if tokens > 1:
            found = scaled_dot_product_attention(query, keys, values, mask, is_causal=mask is None, enable_gqa=True)
            return found.transpose(1, 2)
        query = query.reshape(places, self.kv_heads, -1, width)
        return scaled_dot_product_attention(query, keys, values, mask)


def _block(layer: nn.Module) -> _Block:
    attention, mlp = layer.self_attn, layer.mlp
    weights, biases = zip(*map(_affine, (attention.q_proj, attention.k_proj, attention.v_proj)), strict=True)
    return _Block(
        (layer.input_layernorm.weight, layer.post_attention_layernorm.weight),
        (torch.cat(weights), None if biases[0] is None else torch.cat(biases)),
        *map(_affine, (attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)),
    )


def _affine(module: nn.Module) -> Affine:
    base = module.get_base_layer() if isinstance(module, LoraLayer) else module
    return base.weight, base.bias


def _is_plain(module: nn.Module) -> bool:
    """Is it no adapter that is switched on, nor quantised, nor of low precision?"""
    if isinstance(module, LoraLayer):
        return module.disable_adapters
    return all(weight.dtype == torch.float32 for weight in module.parameters(recurse=False))
