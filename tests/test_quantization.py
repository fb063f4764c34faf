"""QLoRA on the CPU with real bitsandbytes, and what makes long episodes fit: recomputed layers and logits in chunks."""

import importlib.util
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from helpers import make_episode, make_groups
from transformers import AutoModelForCausalLM

from asl_min import grpo
from asl_min.config import Config
from asl_min.grpo import Learner, Scorer
from asl_min.model import ROLES, load_backbone, load_base, merged, save_adapter, save_merged, use
from asl_min.packing import micro_batches
from asl_min.phase import accelerator_of
from asl_min.run import run_dir
from asl_min.run.errors import InputError
from asl_min.sampling.decoder import Decoder
from asl_min.sampling.generate import Generator
from reproduce.bench.nf4_phase import copy_up_to_phase

IDS = torch.tensor([[20, 30, 40, 50, 60]])


@pytest.fixture(scope="module")
def nf4(config) -> Config:
    """The small config with the shipped base in 4 bits."""
    return replace(config, base_model=Config().base_model, quantization="nf4", minibatches=1)


def learner_of(config: Config) -> Learner:
    return Learner(accelerator_of(config), load_backbone(config, {}), "shared", config)


def gradients(model) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(IDS, use_cache=False).logits.square().mean().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# --- nf4


def test_base_is_held_in_four_bits_and_computes_nearly_the_same(nf4):
    small, full = load_base(nf4), load_base(replace(nf4, quantization=None))
    assert {m.weight.quant_type for m in small.modules() if type(m).__name__ == "Linear4bit"} == {"nf4"}
    layers = [sum(p.numel() * p.element_size() for p in m.model.layers.parameters()) for m in (small, full)]
    assert layers[0] < 0.2 * layers[1]
    a, b = (m(IDS).logits.log_softmax(-1) for m in (small, full))
    assert 0 < (a - b).abs().mean() < 1


def test_gradients_are_the_same_whether_or_not_the_model_was_sampled_from(nf4, chat):
    """Sampling and training take turns on the weights: an eval forward pass must not spoil the ones that train."""
    model = load_backbone(nf4, {})
    use(model, "shared", trainable=True)
    before = gradients(model)
    for _ in range(2):
        Generator(model, chat).generate([[20, 30, 40]], [1], [4], 1.0)
        with torch.no_grad():
            model.eval()(IDS)
        after = gradients(model)
        assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    moved = [name for name, gradient in before.items() if gradient.any()]
    assert moved and all("lora_B" in name for name in moved) and len(moved) == len(before) / 2


@pytest.mark.filterwarnings("ignore:bitsandbytes::gemv_4bit")
def test_without_the_guard_an_eval_pass_loses_gradients(nf4):
    """bitsandbytes' bug on CPUs with AVX512-BF16, in bfloat16. Where this fails, `load_base` need not guard against it
    any longer."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    if not bitsandbytes.nn.modules.has_avx512bf16():
        pytest.skip("needs a CPU with AVX512-BF16")
    torch.manual_seed(0)
    layer = bitsandbytes.nn.Linear4bit(64, 64, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4").to("cpu")
    layer.weight.requires_grad_(False)
    lost = {}
    for guarded in (True, False):
        layer.support_avx512bf16_for_cpu = not guarded
        with torch.no_grad():
            layer.eval()(torch.randn(2, 64, dtype=torch.bfloat16))
        x = torch.randn(2, 64, dtype=torch.bfloat16, requires_grad=True)
        layer.train()
        try:
            layer(x).sum().backward()
            lost[guarded] = x.grad is None or not x.grad.any()
        except RuntimeError:
            lost[guarded] = True
    assert lost == {True: False, False: True}


def test_better_episode_becomes_likelier(nf4):
    learner = learner_of(nf4)
    group = [make_episode(i, 30, range(8, 25), reward=float(i % 2)) for i in range(4)]

    def score(episode) -> float:
        with torch.no_grad():
            return sum(learner._score(learner.scorer, batch)[0].sum().item() for batch in micro_batches([episode], 1))

    before = [score(e) for e in group]
    for _ in range(4):
        learner.step([group])
    after = [score(e) for e in group]
    assert after[1] + after[3] - before[1] - before[3] > after[0] + after[2] - before[0] - before[2] + 0.1


def test_adapter_of_an_nf4_base_is_saved_and_read_back(nf4, tmp_path):
    learner = learner_of(nf4)
    learner.step(make_groups())
    save_adapter(learner.model, "shared", tmp_path)
    loaded = load_backbone(nf4, dict.fromkeys(ROLES, tmp_path))
    assert torch.allclose(loaded(IDS).logits, learner.model(IDS).logits, atol=1e-5)


def test_four_bit_weights_are_never_merged_in_place(nf4):
    model = load_backbone(nf4, {})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with merged(model, "shared"):
        assert all(
            torch.equal(p.view(torch.uint8), before[name].view(torch.uint8)) for name, p in model.named_parameters()
        )


def test_merged_checkpoint_of_an_nf4_base_computes_what_the_trainer_does(nf4, tmp_path):
    learner = learner_of(nf4)
    learner.step(make_groups())
    save_merged(learner.model, "shared", nf4, tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(plain(IDS).logits, learner.model(IDS).logits, atol=2e-2)
    assert not torch.allclose(plain(IDS).logits, load_base(replace(nf4, quantization=None))(IDS).logits, atol=5e-2)


def test_quantised_layers_are_not_computed_as_plain_ones(nf4):
    """On a GPU the other weights are bfloat16, as are the numbers that nf4 is packed into."""
    base = load_base(nf4)
    for parameter in base.parameters():
        parameter.data = parameter.data if hasattr(parameter, "quant_state") else parameter.data.bfloat16()
    assert {parameter.dtype for parameter in base.parameters()} == {torch.bfloat16} and Decoder.of(base, 8) is None


def test_bf16_base_has_float32_adapters(nf4, units):
    units(True)
    model = load_backbone(replace(nf4, quantization="bf16"), {})
    assert {str(p.dtype) for n, p in model.named_parameters() if "lora_" in n} == {"torch.float32"}
    assert {str(p.dtype) for n, p in model.named_parameters() if "lora_" not in n} == {"torch.bfloat16"}


@pytest.mark.skipif(torch.accelerator.is_available(), reason="accelerators compute in bfloat16")
def test_without_units_for_bfloat16_the_same_numbers_are_computed_in_float32(nf4, units, other_precision):
    config = replace(nf4, quantization="bf16", mixed_precision="bf16")
    units(True)
    low, there = load_base(config), accelerator_of(config).mixed_precision
    other_precision()
    units(False)
    plain, here = load_base(config), accelerator_of(config).mixed_precision
    assert (there, here) == ("bf16", "no")
    for weight, same in zip(low.parameters(), plain.parameters(), strict=True):
        assert weight.dtype == torch.bfloat16 and same.dtype == torch.float32 and torch.equal(weight.float(), same)


def test_autocast_with_recomputed_layers_makes_the_same_update(nf4, units, other_precision):
    """The second pass of a recomputed layer runs outside of the first one's contexts."""
    units(True)
    config, found = replace(nf4, quantization="bf16", mixed_precision="bf16"), []
    for recompute in (False, True):
        sized = replace(config, gradient_checkpointing=recompute)
        learner = Learner(accelerator_of(sized), load_backbone(sized, {}), "shared", sized)
        learner.step(make_groups(2, 4))
        found.append([p.detach().clone() for p in learner.parameters])
        assert learner.optimizer_steps == 1
    assert all(map(torch.equal, *found))


def test_missing_bitsandbytes_is_a_clear_error(nf4, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "bitsandbytes" else find(name, *rest)
    )
    with pytest.raises(InputError, match="quantization: 'nf4' needs the package bitsandbytes"):
        load_base(nf4)
    monkeypatch.undo()
    load_base(nf4)


def test_the_miniature_starts_without_the_packages_of_a_node():
    unwanted = ("bitsandbytes", "fastapi", "faiss", "uvicorn", "asl_min.sampling.server")
    script = (
        "import sys; from asl_min.run.command import set_up_process; set_up_process(); import asl_min.rounds; "
        f"print([m for m in {unwanted} if sys.modules.get(m)])"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"


# --- long episodes


def updated(config: Config) -> dict[str, torch.Tensor]:
    learner = learner_of(config)
    learner.step(make_groups())
    return {name: p.detach().clone() for name, p in learner.model.named_parameters() if "lora_" in name}


def test_logits_in_chunks_change_nothing(changed, monkeypatch):
    config = changed(minibatches=1)
    whole, sizes = updated(config), []
    monkeypatch.setattr(grpo, "LOGITS_AT_ONCE", 7 * 420)
    tokens = Scorer._tokens
    monkeypatch.setattr(
        Scorer, "_tokens", lambda self, hidden, ids: sizes.append(len(ids)) or tokens(self, hidden, ids)
    )
    chunks = updated(config)
    assert max(sizes) == 7 and len(sizes) > 20
    assert max((whole[k] - chunks[k]).abs().max().item() for k in whole) < 1e-5


def test_recomputed_layers_change_nothing(changed):
    config = changed(minibatches=1)
    passes = []
    found = []
    for recompute in (False, True):
        learner = learner_of(replace(config, gradient_checkpointing=recompute))
        count = []
        learner.model.get_base_model().model.layers[0].mlp.register_forward_pre_hook(
            lambda *_, count=count: count.append(1)
        )
        learner.step(make_groups())
        assert not learner.model.training
        passes.append(len(count))
        found.append({name: p.detach().clone() for name, p in learner.model.named_parameters() if "lora_" in name})
    assert passes[1] > 1.5 * passes[0]
    assert max((found[0][k] - found[1][k]).abs().max().item() for k in found[0]) < 1e-5


def test_each_side_of_the_phase_bench_begins_where_the_phase_did(tmp_path, nf4):
    """Adapters and tasks that the phase starts from are there, what the run did in it and later is not."""
    phases = ("prompt_generator", "reward_model", "policy", "evaluation")
    for file in [f"round_{n:02d}/{phase}/done.json" for n in range(3) for phase in phases] + [
        "prompts.yaml",
        "started",
    ]:
        (tmp_path / "run" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / file).write_text(file)
    (tmp_path / "side").mkdir()
    copy_up_to_phase(tmp_path / "run", 1, tmp_path / "side", nf4)
    there = sorted(str(folder.relative_to(tmp_path / "side")) for folder in (tmp_path / "side").glob("*/*"))
    first, half = [f"round_00/{phase}" for phase in sorted(phases[:3])], [f"round_01/{phase}" for phase in phases[:2]]
    assert there == first + half and run_dir.read_config(tmp_path / "side").quantization == "nf4"
