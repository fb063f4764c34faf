"""The memory estimate beside what is measured on a CPU, and what `plan` says and refuses."""

from dataclasses import replace

import pytest
import torch
from helpers import ROOT, make_episode
from transformers import Qwen2Config, Qwen2ForCausalLM

from asl_min.config import Config, load_config
from asl_min.grpo import Learner
from asl_min.model import empty_base, load_backbone
from asl_min.packing import micro_batches
from asl_min.phase import accelerator_of
from asl_min.run.errors import InputError
from asl_min.tools.nodes import Hours, hours_of
from asl_min.tools.plan import GIB, check_fit, count_text, memory_of, work_of
from asl_min.tools.shape import Shape, read_shape, shape_of

WIDE = {
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 704,
    "vocab_size": 2000,
}
SEVEN = {
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
}


def without_weights(sizes: dict) -> Qwen2ForCausalLM:
    with torch.device("meta"):
        return Qwen2ForCausalLM(Qwen2Config(**sizes, max_position_embeddings=32768))


@pytest.fixture(scope="module")
def wide(tmp_path_factory, tokenizer):
    """A random model of 7B's proportions, 1/14 as wide."""
    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(0)
    Qwen2ForCausalLM(Qwen2Config(**WIDE, max_position_embeddings=2048, tie_word_embeddings=False)).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return str(folder)


def config_of(base: str, **values) -> Config:
    sizes = {
        "server_url": "http://unused",
        "max_episode_tokens": 1024,
        "micro_batch_tokens": 1024,
        "lora_rank": 16,
        "mixed_precision": "no",
        "generation_batch_size": 4,
    }
    return Config(base_model=base, **sizes | values)


@pytest.fixture
def no_network(monkeypatch):
    """An empty hub cache; whoever asks the hub fails."""
    monkeypatch.setattr("asl_min.tools.shape.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("asl_min.tools.shape.empty_base", lambda config: pytest.fail(f"asked for {config.base_model}"))


def saved_bytes(learner: Learner, batch) -> int:
    """What autograd keeps of a forward pass, parameters apart: storages, each once."""
    parameters = {p.untyped_storage().data_ptr() for p in learner.model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = learner._score(learner.scorer, batch)
    assert result[0].requires_grad
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("quantization", [None, "bf16"])
@pytest.mark.parametrize("recompute", [False, True])
def test_activations_are_within_15_percent_of_what_autograd_keeps(
    wide, quantization, recompute, units, other_precision
):
    """One sampled token, so that logits do not count; recomputed layers are kept one at a time, so that only their
    inputs are here."""
    units(True)
    precision = "bf16" if quantization else "no"
    config = config_of(wide, quantization=quantization, gradient_checkpointing=recompute, mixed_precision=precision)
    learner = Learner(accelerator_of(config), load_backbone(config, {}), "shared", config)
    (batch,) = micro_batches([make_episode(0, 1024, [1023])], 1024)
    with learner._inputs_as_they_are():
        measured = saved_bytes(learner, batch)
    shape = shape_of(empty_base(config), config.lora_rank)
    b = 2 if quantization else 4
    planned = memory_of(config, shape).activations - 1024**2 * b
    if recompute:
        planned = 1024 * (shape.layers + 1) * shape.hidden * b
    assert measured == pytest.approx(planned, rel=0.15)


@pytest.mark.parametrize("quantization", [None, "bf16", "nf4"])
def test_weights_are_within_15_percent(wide, quantization, units):
    units(True)
    config = config_of(wide, quantization=quantization)
    model = load_backbone(config, {})
    base, found = model.get_base_model(), 0
    for name, p in base.named_parameters():
        if "lora_" not in name:
            state = getattr(p, "quant_state", None)
            extra = [state.absmax, state.state2.absmax] if state else []
            low = (
                2 if quantization == "nf4" and not state else p.element_size()
            )  # on a CPU nf4's other weights are float32, on a GPU bfloat16
            found += p.numel() * (p.element_size() if state else low) + sum(t.numel() * t.element_size() for t in extra)
    assert found == pytest.approx(memory_of(config, shape_of(empty_base(config), config.lora_rank)).weights, rel=0.15)


def test_shared_base_is_planned_as_a_share_and_two_whole_blocks():
    config = config_of("unread", quantization="nf4", backend="vllm")
    shape = shape_of(without_weights(SEVEN), 16)
    whole, shared = memory_of(config, shape).weights, memory_of(config, shape, shards=8).weights
    assert whole - shared == pytest.approx(shape.linear * 0.5 * (1 - 1 / 8 - 2 / 28))


@pytest.mark.parametrize("adapters", ["shared", "per_role"])
def test_adapters_gradients_and_optimizer_are_exact(wide, adapters):
    config = config_of(wide, adapters=adapters)
    model = load_backbone(config, {})
    name = "shared" if adapters == "shared" else "policy"
    learner = Learner(accelerator_of(config), model, name, config)
    learner.step([[make_episode(i, 40, range(20, 40), float(i % 2), vocab_size=300) for i in range(2)]])
    memory = memory_of(config, shape_of(empty_base(config), config.lora_rank))
    assert memory.adapters == sum(p.numel() * 4 for n, p in model.named_parameters() if "lora_" in n)
    states = learner.optimizer.state.values()
    assert memory.optimizer == sum(v.numel() * 4 for s in states for k, v in s.items() if k != "step")
    assert memory.gradients == sum(p.numel() * 4 for p in learner.parameters)


def test_shape_of_7b_is_qwens():
    """7.62B parameters, 1.09B of them embeddings and head; LoRA of rank 16 on the seven linear layers has 40.4M."""
    shape = shape_of(without_weights(SEVEN), 16)
    assert (shape.linear + shape.other) / 1e9 == pytest.approx(7.62, abs=0.01) and shape.lora / 1e6 == pytest.approx(
        40.4, abs=0.1
    )


def test_nf4_7b_fits_24_gib_and_float32_does_not():
    shape = shape_of(without_weights(SEVEN), 16)
    config = Config(
        max_episode_tokens=4096,
        micro_batch_tokens=4096,
        backend="vllm",
        server_url="http://unused",
        quantization="nf4",
        gradient_checkpointing=True,
        mixed_precision="bf16",
    )
    check_fit(config, shape, memory_of(config, shape), 24)
    full = replace(config, quantization=None)
    with pytest.raises(InputError, match=r"does not fit: .* GiB are needed.*most goes to weights"):
        check_fit(full, shape, memory_of(full, shape), 24)


def test_episode_longer_than_the_model_reads_is_refused(wide):
    config = config_of(wide, max_episode_tokens=4096)
    shape = shape_of(empty_base(config), config.lora_rank)
    with pytest.raises(InputError, match="'max_episode_tokens' is 4096, the base model reads 2048"):
        check_fit(config, shape, memory_of(config, shape), None)


def test_work_by_hand():
    config = Config(
        pg_max_steps=2,
        pg_prompts=3,
        pg_samples=4,
        verify_samples=5,
        attempts=6,
        grm_max_steps=1,
        grm_prompts=2,
        grm_samples=2,
    )
    config = replace(config, policy_max_steps=1, policy_prompts=2, policy_samples=4, max_episode_tokens=100)
    assert work_of(config) == {"rollouts": 24 * 18 + 4 + 16, "sampled_tokens": 452 * 25, "trained_tokens": 36 * 50}


def test_command_prints_the_parts_and_refuses_with_code_2(script, capsys):
    code = script("asl_min.tools.plan", ROOT / "configs" / "tiny.yaml", "--gib", 0.5, "lora_rank=8")
    said = capsys.readouterr()
    assert all(
        part in said.out
        for part in ("weights", "adapters", "optimizer", "activations", "logits", "sampling", "hours", "disk")
    )
    assert code == 2 and said.err.startswith("error: does not fit")


ROUND = {"rollouts": 800, "sampled_tokens": 7_200_000, "trained_tokens": 14_400_000}
SMALL = Shape(layers=2, hidden=8, queries=8, keys=8, mlp=8, vocab=8, positions=9, linear=10**9, other=0, lora=10**7)


def hours(nodes: int, fsdp: bool = False, **values) -> Hours:
    """Of a made-up round on nodes of 2 GPUs. 32 episodes of 18,000 tokens are a step: 36 micro-batches."""
    steps = {"pg_max_steps": 3, "grm_max_steps": 3, "policy_max_steps": 4, "policy_prompts": 8, "policy_samples": 4}
    config = Config(**steps | {"micro_batch_tokens": 16_000} | values)
    return hours_of(config, SMALL, ROUND, nodes, 2, (1000.0, 2000.0), fsdp)


def test_hours_of_one_node_by_hand():
    """7.2M tokens at 2 x 1000 a second, 14.4M at 2 x 2000; nothing is exchanged or published."""
    assert hours(1) == Hours(sampling=1.0, update=1.0, exchange=0.0, publishing=0.0)


def test_hours_of_several_nodes_by_hand():
    """36 micro-batches on 8 processes are 5 for the last to be ready, where 4.5 would be their share. 10 steps send
    2 x 40 MB, the episodes 230.4 MB, 3/4 of it between 4 nodes, at 1.25 GB a second."""
    found = hours(4)
    assert (found.sampling, found.update, found.publishing) == (0.25, pytest.approx(0.25 * 5 / 4.5), 0.0)
    assert found.exchange * 3600 == pytest.approx((10 * 80e6 + 230.4e6) * 0.75 / 1.25e9)


def test_no_more_processes_sample_than_a_step_has_episodes():
    assert hours(64).sampling == hours(16).sampling == 1 / 16


def test_servers_not_nodes_make_sampling_shorter():
    """Each of 10 steps brings 40 MB to every server and takes 2 s besides."""
    one = {"backend": "vllm", "server_url": "http://a"}
    two = {"backend": "vllm", "server_url": ["http://a", "http://b"]}
    assert hours(1, **one).sampling == hours(4, **one).sampling == 1.0 and hours(4, **two).sampling == 0.5
    assert hours(4, **two).publishing * 3600 == pytest.approx(10 * (2 * 40e6 / 1.25e9 + 2))


def test_shared_base_is_gathered_from_other_nodes_for_each_micro_batch():
    """14.4M tokens are 900 micro-batches, 225 for each of 4 processes; each reads half of 4 GB three times."""
    more = hours(2, fsdp=True).exchange - hours(2).exchange
    assert more * 3600 == pytest.approx(225 * 3 * 4e9 / 2 / 1.25e9)


def test_command_tells_what_nodes_give_and_one_node_as_before(script, capsys):
    said = []
    for nodes in ([], ["--nodes", "1"], ["--nodes", "4"]):
        assert script("asl_min.tools.plan", ROOT / "configs" / "tiny.yaml", "--gpus", 2, *nodes) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and said[2].startswith(said[0])
    assert "4 nodes of 2 GPU(s): " in said[2] and "times as fast as one node" in said[2]


@pytest.mark.parametrize("option", ["--gib", "--gpus", "--nodes", "--sample-rate", "--train-rate"])
@pytest.mark.parametrize("value", ["-3", "0"])
def test_options_must_be_above_zero(script, capsys, option, value):
    assert script("asl_min.tools.plan", str(ROOT / "configs" / "tiny.yaml"), option, value) == 2
    assert capsys.readouterr().err == f"error: argument {option}: {value}, must be above 0 (see --help)\n"


@pytest.mark.parametrize(("number", "text"), [(919_680, "0.9M"), (40_400_000, "40.4M"), (7_615_616_512, "7.62B")])
def test_parameters_are_told_in_a_unit_that_shows_them(number, text):
    assert count_text(number) == text


@pytest.mark.parametrize(("size", "billions"), [("0.5B", 0.494), ("3B", 3.086), ("7B", 7.616)])
def test_built_in_sizes_have_the_published_number_of_parameters(no_network, size, billions):
    shape = read_shape(Config(base_model=f"Qwen/Qwen2.5-{size}-Instruct"))
    assert (shape.linear + shape.other) / 1e9 == pytest.approx(billions, abs=0.001) and shape.positions == 32768


def test_plan_says_that_the_sizes_are_built_in(no_network, script, capsys):
    assert script("asl_min.tools.plan", str(ROOT / "configs" / "qwen2.5-0.5b.yaml")) == 0
    assert "built-in sizes: the model's config.json is not in the hub's cache" in capsys.readouterr().out


def test_cached_config_goes_before_the_built_in_sizes(monkeypatch, wide):
    config = Config(base_model="Qwen/Qwen2.5-7B-Instruct")
    monkeypatch.setattr("asl_min.tools.shape.try_to_load_from_cache", lambda *_: "snapshots/0/config.json")
    monkeypatch.setattr("asl_min.tools.shape.empty_base", lambda _: empty_base(config_of(wide)))
    assert read_shape(config).hidden == WIDE["hidden_size"]


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_config_is_valid(file):
    assert load_config(file).top_k in ((1,) if file.stem == "smollm2-135m" else (2, 3))


@pytest.mark.parametrize(
    ("name", "gib"), [("qwen2.5-0.5b", 8), ("qwen2.5-3b", 24), ("qwen2.5-7b", 80), ("qwen2.5-7b", 24), ("paper", 80)]
)
def test_shipped_configs_fit_the_cards_that_they_name(name, gib, no_network):
    config = load_config(ROOT / "configs" / f"{name}.yaml")
    shape = read_shape(config)
    memory = memory_of(config, shape)
    check_fit(config, shape, memory, gib)
    assert memory.total < gib * GIB


def test_nodes_of_a_round_without_rollouts_cannot_be_planned(script, capsys):
    nothing = [f"{key}=0" for key in ("pg_max_steps", "grm_max_steps", "policy_max_steps", "round_rollouts")]
    assert script("asl_min.tools.plan", ROOT / "configs" / "tiny.yaml", "--nodes", "2", *nothing) == 2
    assert "a round without rollouts cannot be planned for" in capsys.readouterr().err
