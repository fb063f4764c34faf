"""The written-out forward pass computes what transformers' own does, and is used only where it does."""

import random

import pytest
import torch
from helpers import random_model
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from asl_min.model import hidden_states, load_backbone, merged, use
from asl_min.sampling.decoder import Decoder, spans_of
from asl_min.sampling.generate import Generator
from asl_min.sampling.prefix_cache import CacheLayer

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "initializer_range": 0.2,
}


def llama(**rest) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SHAPE | rest)).eval()


def qwen2():
    """With biases and norms that are not those of a new model."""
    model = random_model(300)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model


@pytest.mark.parametrize(
    "model",
    [qwen2(), llama(), llama(attention_bias=True, mlp_bias=True, head_dim=16), llama(num_key_value_heads=4)],
    ids=["qwen2", "llama", "llama with biases and wide heads", "llama with a key head for each head"],
)
@torch.no_grad()
def test_hidden_states_are_those_of_transformers(model):
    ids = torch.randint(0, 300, (3, 21), generator=torch.Generator().manual_seed(0))
    expected = hidden_states(model, ids)
    layers, decoder = [CacheLayer() for _ in range(2)], Decoder.of(model, 40)

    def states(start: int, end: int, lasts: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(start, end).expand(3, -1)
        for layer in layers:
            layer.go_to(None, positions, end)
        return decoder(ids[:, start:end], positions, end, lasts, layers)

    for layer in layers:
        layer.open(3, 40, 40, {})
    for start, end, lasts in ((0, 16, (15, 7, 0)), (16, 20, (3, 0, 2)), (20, 21, (0, 0, 0))):
        found = states(start, end, torch.tensor(lasts))
        assert torch.allclose(found, expected[torch.arange(3), start + torch.tensor(lasts)], atol=1e-4)


def test_neighbours_that_see_as_many_columns_are_one_span():
    assert spans_of([100] * 8 + [97] * 8 + [40] * 8 + [10, 90]) == [(0, 16, 112), (16, 24, 48), (24, 26, 96)]
    assert spans_of([1]) == [(0, 1, 16)]


def test_samples_are_those_of_transformers_own_pass(model, chat, tokenizer, monkeypatch):
    rng = random.Random(0)
    contexts = [[rng.randrange(15, len(tokenizer)) for _ in range(length)] for length in (3, 17, 17, 30, 47)]
    found = Generator(model, chat).generate(contexts * 2, range(10), [40] * 10, 1.0)
    monkeypatch.setattr(Decoder, "of", lambda *_: None)
    expected = Generator(model, chat).generate(contexts * 2, range(10), [40] * 10, 1.0)
    assert [c.ids for c in found] == [c.ids for c in expected]
    for a, b in zip(found, expected, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


def test_other_models_are_left_to_transformers():
    assert Decoder.of(llama(), 8)
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}
    for other in (llama().bfloat16(), llama(hidden_act="gelu"), llama(rope_parameters=scaled)):
        assert Decoder.of(other, 8) is None
    assert Decoder.of(MistralForCausalLM(MistralConfig(**SHAPE)), 8) is None


def test_adapters_that_are_not_merged_are_left_to_transformers(config):
    adapted = load_backbone(config, {})
    use(adapted, "shared")
    assert Decoder.of(adapted, 8) is None
    with merged(adapted, "shared"):
        assert Decoder.of(adapted, 8)
    with adapted.disable_adapter():
        assert Decoder.of(adapted, 8)
    assert Decoder.of(adapted, 8) is None
