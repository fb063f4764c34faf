"""The backbone's adapters: which there are, which is trained, and that plain peft reads what is saved."""

import pytest
import torch
from helpers import new_tokenizer
from peft import PeftModel
from transformers import AutoModelForCausalLM, GraniteConfig, GraniteForCausalLM

from asl_min.model import (
    ROLES,
    adapter_name,
    empty_base,
    load_backbone,
    load_base,
    load_tokenizer,
    merged,
    save_adapter,
    use,
)
from asl_min.run.errors import InputError

IDS = torch.tensor([[20, 30, 40, 50, 60]])


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(IDS, use_cache=False).logits


def shaken(model, name: str, seed: int = 1):
    """The model with one adapter's weights moved, so that it has an effect."""
    generator = torch.Generator().manual_seed(seed)
    for key, parameter in model.named_parameters():
        if f".{name}." in key:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def test_shared_adapter_is_one_for_the_three_roles(config):
    assert list(load_backbone(config, {}).peft_config) == ["shared"]
    assert {adapter_name(config, role) for role in ROLES} == {"shared"}


def test_per_role_adapters_are_three(changed):
    config = changed(adapters="per_role")
    assert list(load_backbone(config, {}).peft_config) == list(ROLES)
    assert [adapter_name(config, role) for role in ROLES] == list(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_only_the_adapter_in_use_requires_gradients(changed, role):
    model = load_backbone(changed(adapters="per_role"), {})
    use(model, ROLES[0], trainable=True)
    use(model, role, trainable=True)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert names and all("lora_" in name and f".{role}." in name for name in names)
    assert model.active_adapter == role


def test_architecture_that_scales_its_logits_is_refused(changed, tmp_path, tokenizer):
    shape = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    GraniteForCausalLM(
        GraniteConfig(vocab_size=len(tokenizer), logits_scaling=4.0, initializer_range=0.5, **shape)
    ).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="GraniteForCausalLM scales or caps its logits"):
        load_backbone(changed(base_model=str(tmp_path)), {})


def test_adapter_used_for_rollouts_requires_no_gradients(config):
    model = load_backbone(config, {})
    use(model, "shared")
    assert not any(p.requires_grad for p in model.parameters())


def test_adapter_covers_every_linear_layer_of_the_blocks_at_the_rank(config):
    found = {
        name.split(".layers.")[1].split(".")[2]: p.shape[0]
        for name, p in load_backbone(config, {}).named_parameters()
        if "lora_A" in name
    }
    assert found == dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), 4)


def test_adapters_are_in_float32(config):
    assert {p.dtype for name, p in load_backbone(config, {}).named_parameters() if "lora_" in name} == {torch.float32}


@pytest.mark.parametrize("adapters", ["shared", "per_role"])
def test_new_adapter_does_not_change_the_bases_logits(changed, adapters):
    config = changed(adapters=adapters)
    model, plain = load_backbone(config, {}), logits(load_base(config))
    for role in ROLES:
        use(model, adapter_name(config, role))
        assert torch.equal(logits(model), plain)


def test_new_adapter_depends_on_the_seed(changed):
    first, again, other = (dict(load_backbone(changed(seed=seed), {}).named_parameters()) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_saved_adapter_is_read_by_plain_peft_with_the_same_outputs(config, tmp_path):
    model = shaken(load_backbone(config, {}), "shared")
    save_adapter(model, "shared", tmp_path / "adapter")
    assert {f.name for f in (tmp_path / "adapter").iterdir()} == {"adapter_model.safetensors", "adapter_config.json"}
    base = AutoModelForCausalLM.from_pretrained(config.base_model, dtype=torch.float32)
    plain = logits(base)
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert torch.allclose(logits(loaded), logits(model), atol=1e-6) and not torch.allclose(
        logits(loaded), plain, atol=1e-2
    )


def test_saved_adapters_are_read_back_each_by_its_role(changed, tmp_path):
    config = changed(adapters="per_role")
    model = load_backbone(config, {})
    expected = {}
    for role in ROLES[1:]:  # the first role has none yet
        shaken(model, role)
        save_adapter(model, role, tmp_path / role)
        use(model, role)
        expected[role] = logits(model)
    loaded = load_backbone(config, {role: tmp_path / role for role in ROLES[1:]})
    for role in ROLES[1:]:
        use(loaded, role)
        assert torch.allclose(logits(loaded), expected[role], atol=1e-6)
    use(loaded, ROLES[0])
    assert torch.equal(logits(loaded), logits(load_base(config)))


def test_loaded_adapter_can_be_trained_on(config, tmp_path):
    save_adapter(shaken(load_backbone(config, {}), "shared"), "shared", tmp_path)
    model = load_backbone(config, dict.fromkeys(ROLES, tmp_path))
    use(model, "shared", trainable=True)
    model(IDS).logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad)
    assert any(p.requires_grad for p in model.parameters())


# --- merging for sampling


@pytest.fixture
def three(changed):
    """Three adapters, each with an effect of its own."""
    model = load_backbone(changed(adapters="per_role"), {})
    for role in ROLES:
        shaken(model, role, seed=ROLES.index(role))
    return model


@pytest.mark.parametrize("role", ROLES)
def test_merged_model_computes_the_same_with_no_adapter_in_the_way(three, role):
    use(three, role)
    expected = logits(three)
    with merged(three, role):
        assert torch.allclose(logits(three), expected, atol=1e-4)
        assert all(m.disable_adapters for m in three.modules() if hasattr(m, "lora_A"))
    assert torch.equal(logits(three), expected)


def test_merging_leaves_every_weight_as_it_was(three):
    use(three, "policy")
    before = {name: p.detach().clone() for name, p in three.named_parameters()}
    with pytest.raises(ZeroDivisionError), merged(three, "policy"):
        assert any(not torch.equal(p, before[name]) for name, p in three.named_parameters())
        raise ZeroDivisionError
    assert all(torch.equal(p, before[name]) for name, p in three.named_parameters())
    assert three.active_adapter == "policy"


def test_model_that_was_merged_can_be_trained(three):
    use(three, "policy")
    with merged(three, "policy"):
        pass
    use(three, "policy", trainable=True)
    three(IDS).logits.square().mean().backward()
    assert {name for name, p in three.named_parameters() if p.grad is not None} == {
        name for name, _ in three.named_parameters() if ".policy." in name
    }


def test_weights_of_lower_precision_are_not_merged(config):
    model = shaken(load_backbone(config, {}), "shared").to(torch.bfloat16)
    use(model, "shared")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with merged(model, "shared"):
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
        assert not any(m.disable_adapters for m in model.modules() if hasattr(m, "lora_A"))


# --- what is refused


@pytest.mark.parametrize("load", [load_tokenizer, load_base])
def test_missing_base_model_is_refused(changed, tmp_path, load):
    with pytest.raises(InputError, match=r"base_model.*nowhere"):
        load(changed(base_model=str(tmp_path / "nowhere")))


def test_base_without_chat_template_is_refused(changed, tmp_path):
    bare = new_tokenizer()
    bare.chat_template = None
    bare.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="chat template"):
        load_tokenizer(changed(base_model=str(tmp_path)))


def test_base_that_cannot_be_read_says_why_once_and_whole(changed, tmp_path):
    with pytest.raises(InputError, match=r"^base_model: './nope': no such folder$"):
        load_base(changed(base_model="./nope"))
    with pytest.raises(InputError) as said:
        empty_base(changed(base_model=str(tmp_path)))
    assert "\n" not in str(said.value) and not str(said.value).endswith(": ")


DAMAGES = {
    "settings that are not JSON": lambda folder: (folder / "adapter_config.json").write_text("{"),
    "settings that are a list": lambda folder: (folder / "adapter_config.json").write_text("[]"),
    "settings that lack everything": lambda folder: (folder / "adapter_config.json").write_text("{}"),
    "no weights": lambda folder: (folder / "adapter_model.safetensors").unlink(),
    "another rank": lambda folder: (folder / "adapter_config.json").write_text(
        (folder / "adapter_config.json").read_text().replace('"r": 4', '"r": 2')
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("roles", [ROLES, ROLES[1:]])  # the first adapter of a model, or one more
def test_damaged_adapter_is_one_line_that_names_it(damage, roles, changed, tmp_path):
    config = changed(adapters="per_role")
    save_adapter(load_backbone(config, {}), "policy", tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=f"^{tmp_path}: ") as said:
        load_backbone(config, dict.fromkeys(roles, tmp_path))
    assert "\n" not in str(said.value)


def test_missing_adapter_is_refused(config, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        load_backbone(config, dict.fromkeys(ROLES, tmp_path / "nowhere"))
