"""The written-out forward pass computes what transformers' own does, and is used only where it does."""

import random
from dataclasses import replace

import pytest
import torch
from helpers import move, random_model
from peft import LoraConfig, PeftModel
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from asl_min.model import hidden_states, load_backbone, merged
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
    assert Decoder.of(llama(), 8) and Decoder.of(llama().bfloat16(), 8)
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}
    for other in (llama().half(), llama(hidden_act="gelu"), llama(rope_parameters=scaled)):
        assert Decoder.of(other, 8) is None
    assert Decoder.of(MistralForCausalLM(MistralConfig(**SHAPE)), 8) is None


def adapted(config, **values) -> PeftModel:
    """The base with an adapter that has an effect, switched on."""
    model = load_backbone(config, {})
    model.add_adapter("other", LoraConfig(r=4, lora_alpha=12, task_type="CAUSAL_LM", **values))
    return move(model, "other", 1)


@pytest.mark.parametrize("layers", ["all-linear", ["q_proj", "v_proj", "down_proj"]], ids=["all layers", "three"])
def test_adapter_that_is_not_merged_is_computed_as_peft_does(layers, config, chat, monkeypatch):
    model, contexts = adapted(config, target_modules=layers), [[20, 30, 40], [20, 31, 50, 60], [22] * 20]
    decoders, of = [], Decoder.of
    monkeypatch.setattr(Decoder, "of", lambda *words: decoders.append(of(*words)) or decoders[-1])
    found = Generator(model, chat).generate(contexts, range(3), [20] * 3, 1.0)
    assert all(decoders)
    monkeypatch.setattr(Decoder, "of", lambda *_: None)
    expected = Generator(model, chat).generate(contexts, range(3), [20] * 3, 1.0)
    with model.disable_adapter():
        without = Generator(model, chat).generate(contexts, range(3), [20] * 3, 1.0)
    assert [c.ids for c in found] == [c.ids for c in expected] != [c.ids for c in without]
    for a, b in zip(found, expected, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


def test_bfloat16_is_as_far_from_float32_as_transformers_own_pass(config, chat, units):
    """It rounds elsewhere, not more."""
    units(True)
    contexts = [[20 + i, 30, 40 + i] * 5 for i in range(12)]
    exact, low = (
        adapted(config, target_modules="all-linear"),
        adapted(replace(config, quantization="bf16"), target_modules="all-linear"),
    )
    completions = Generator(exact, chat).generate(contexts, range(12), [20] * 12, 1.0)

    def gap(written_out: bool) -> float:
        with pytest.MonkeyPatch.context() as patched:
            if not written_out:
                patched.setattr(Decoder, "of", lambda *_: None)
            gaps = []
            for context, own in zip(contexts, completions, strict=True):
                known = [*context, *own.ids[:-1]]
                (said,) = Generator(low, chat).generate([known], [0], [1], 0.0)
                (right,) = Generator(exact, chat).generate([known], [0], [1], 0.0)
                gaps.append(abs(said.logprobs[0] - right.logprobs[0]))
            return sum(gaps) / len(gaps)

    assert 0 < gap(True) < 2 * gap(False)


def test_adapters_of_other_kinds_are_left_to_peft(config):
    assert Decoder.of(adapted(config, target_modules="all-linear"), 8)
    assert Decoder.of(adapted(config, target_modules="all-linear", use_dora=True), 8) is None
    model = adapted(config, target_modules="all-linear")
    model.base_model.set_adapter(["shared", "other"])
    assert Decoder.of(model, 8) is None
    with merged(model, "other"):
        assert Decoder.of(model, 8)
