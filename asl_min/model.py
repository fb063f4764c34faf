"""The backbone: a causal LM with one LoRA adapter shared by the three roles, or one each.

Adapters are kept in float32 and saved in PEFT's format. The base weights never change; they are float32, bfloat16 or
nf4 (QLoRA).
"""

import json
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import peft
import torch
import transformers
from huggingface_hub import save_torch_state_dict, snapshot_download
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_module_weight
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from asl_min.config import Config
from asl_min.run import hub
from asl_min.run.errors import InputError
from asl_min.run.shipped import PACKAGE

transformers.utils.logging.disable_progress_bar()
# peft asks transformers for this by its old name
warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)

ROLES = ("prompt_generator", "reward_model", "policy")
UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError)
"""What transformers and peft raise where files are missing, malformed or of another model."""
PAD_TO = 16  # lengths are rounded up to this, so that few shapes occur and memory stays flat


def adapter_name(config: Config, role: str) -> str:
    return "shared" if config.adapters == "shared" else role


def base_source(config: Config) -> str:
    """Where the base model is loaded from: a folder, or a hub id. Raises `InputError` for a folder that is not there,
    so that no hub is asked for it, and for a hub that does not answer."""
    path, name = config.path(config.base_model), config.base_model
    shipped = PACKAGE in (PACKAGE.parent / name).parents
    below_a_folder = (Path(name).parent != Path() and Path(name).parent.is_dir()) or name.count("/") > 1
    if not path.is_dir() and (name.startswith((".", "/")) or "\\" in name or shipped or below_a_folder):
        raise InputError(f"base_model: {name!r}: no such folder")
    if not path.is_dir():
        hub.require(name, "config.json")
    return str(path)


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Inside, a base model or adapter that cannot be read is an `InputError`; damaged weights are a `SafetensorError`.
    Both name `where`."""
    try:
        yield
    except (InputError, torch.OutOfMemoryError):
        raise
    except SafetensorError as error:
        raise SafetensorError(f"{where}: damaged weights: {error}") from None
    except UNREADABLE as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise InputError(f"{where}: cannot be read: {said}") from None


def load_tokenizer(config: Config) -> PreTrainedTokenizerBase:
    """Raises `InputError` where there is no tokenizer or no chat template."""
    with readable(f"base_model: {config.base_model!r}"):
        tokenizer = AutoTokenizer.from_pretrained(base_source(config))
    if not tokenizer.chat_template:
        raise InputError(f"base_model: {config.base_model!r} has no chat template")
    return tokenizer


def empty_base(config: Config) -> PreTrainedModel:
    """The base's architecture without its weights, on torch's meta device. Raises `InputError` where its config cannot
    be read."""
    with readable(f"base_model: {config.base_model!r}"), torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base_source(config)))


def fast_bfloat16() -> bool:
    """Does this machine multiply in bfloat16? Where a processor has no units for it, this takes many times as long as
    float32. An accelerator is taken to have them."""
    processor = getattr(torch.cpu, "get_capabilities", dict)()  # older releases of torch cannot say
    return torch.accelerator.is_available() or any(has for unit, has in processor.items() if unit.endswith("bf16"))


def load_base(config: Config) -> PreTrainedModel:
    """The base model as `quantization` says. Raises `InputError` where it cannot be read."""
    low = config.quantization == "bf16" or (config.quantization == "nf4" and torch.accelerator.is_available())
    arguments = {"dtype": torch.bfloat16 if low else torch.float32}
    if config.quantization == "nf4":
        find_bitsandbytes()
        nf4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
        arguments["quantization_config"] = BitsAndBytesConfig(
            **nf4, bnb_4bit_compute_dtype=arguments["dtype"], bnb_4bit_quant_storage=torch.bfloat16
        )
    with readable(f"base_model: {config.base_model!r}"):
        base = AutoModelForCausalLM.from_pretrained(base_source(config), **arguments)
    for module in base.modules():
        # If bitsandbytes may use AVX512 here, an evaluation's forward pass repacks the weights, and gradients are lost.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    if config.quantization == "bf16" and not fast_bfloat16():
        base.float()
    if config.gradient_checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})
    return base


def find_bitsandbytes() -> None:
    """Let peft and transformers see bitsandbytes, which `command.start` hides. Raises `InputError` where it is
    not installed."""
    if sys.modules.get("bitsandbytes") is None:
        sys.modules.pop("bitsandbytes", None)
    for known in (
        transformers.utils.import_utils.is_bitsandbytes_available,
        peft.import_utils.is_bnb_available,
        peft.import_utils.is_bnb_4bit_available,
    ):
        known.cache_clear()
    if not peft.import_utils.is_bnb_4bit_available():
        raise InputError("quantization: 'nf4' needs the package bitsandbytes: pip install 'asl_min[gpu]'")


def load_backbone(config: Config, saved: dict[str, Path]) -> PeftModel:
    """The base with an adapter for every name, read from `saved[role]` if given, else new. A new adapter changes
    nothing until it is trained."""
    torch.manual_seed(config.seed)
    lora = LoraConfig(
        r=config.lora_rank, lora_alpha=2 * config.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = None
    for role in ROLES:
        name = adapter_name(config, role)
        if model is not None and name in model.peft_config:
            continue
        folder = saved.get(role)
        if folder and not (Path(folder) / "adapter_config.json").is_file():
            raise InputError(f"{folder}: holds no peft adapter (no adapter_config.json)")
        if model is None:
            base = load_base(config)
            check_head(base, config.base_model)
        with readable(str(folder or config.base_model)):
            if model is None and folder:
                model = PeftModel.from_pretrained(base, folder, adapter_name=name)
            elif model is None:
                model = get_peft_model(base, lora, adapter_name=name)
            elif folder:
                model.load_adapter(folder, adapter_name=name)
            else:
                model.add_adapter(name, lora)
    return model.eval()  # no dropout anywhere: sampling and training see the same function


def hidden_states(model: PreTrainedModel | PeftModel, ids: torch.Tensor, **arguments) -> torch.Tensor:
    """Last hidden states [rows, length, hidden] of token ids [rows, length]; `arguments` are the decoder's."""
    return plain(model).get_decoder()(input_ids=ids, **arguments).last_hidden_state


def logits_of(model: PreTrainedModel | PeftModel, hidden: torch.Tensor) -> torch.Tensor:
    """Logits [..., vocabulary] in float32 of hidden states [..., hidden]. Ask for few: a vocabulary is large."""
    return plain(model).get_output_embeddings()(hidden).float()


def padded(length: int) -> int:
    """The length that a forward pass over `length` tokens is padded to."""
    return -(-length // PAD_TO) * PAD_TO


def check_head(model: PreTrainedModel, name: str) -> None:
    """Raises `InputError` for an architecture that changes its logits after the head (soft caps, scales), which
    `logits_of` leaves out."""
    ids = torch.tensor([[0, 1]], device=model.device)
    with torch.no_grad():
        if not torch.allclose(
            logits_of(model, hidden_states(model, ids)), model(input_ids=ids).logits.float(), rtol=1e-2, atol=1e-2
        ):
            raise InputError(
                f"base_model: {name!r}: {type(model).__name__} scales or caps its logits, which is not supported"
            )


def plain(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The model that the adapters are attached to."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def use(model: PeftModel, name: str, trainable: bool = False) -> None:
    """Make one adapter the active one; its weights alone require gradients, if `trainable`."""
    model.set_adapter(name)
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(trainable and f".{name}." in key)


@contextmanager
def merged(model: PeftModel, name: str) -> Iterator[None]:
    """Inside, each float32 layer holds W + BA, so that sampling runs on plain weights, faster. Afterwards W comes back,
    bit for bit.

    Weights of lower precision are left alone, since merging would round them; their adapter stays in the forward pass.
    """
    layers = [m for m in model.modules() if isinstance(m, LoraLayer) and name in m.lora_A]
    if any(layer.get_base_layer().weight.dtype != torch.float32 for layer in layers):
        yield
        return
    originals = [layer.get_base_layer().weight.data for layer in layers]
    try:
        with torch.no_grad(), model.disable_adapter():
            for layer, weight in zip(layers, originals, strict=True):
                layer.get_base_layer().weight.data = weight + layer.get_delta_weight(name)
            yield
    finally:
        for layer, weight in zip(layers, originals, strict=True):
            layer.get_base_layer().weight.data = weight


def save_adapter(model: PeftModel, name: str, folder: Path) -> None:
    """Write one adapter as `folder/adapter_model.safetensors` and `adapter_config.json`, loadable by plain peft."""
    model.save_pretrained(folder, selected_adapters=[name])
    inner = folder / name
    for file in inner.iterdir() if inner.is_dir() else []:
        file.replace(folder / file.name)
    if inner.is_dir():
        inner.rmdir()
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty template; `tools.share` writes the model card
    facts = json.loads((folder / "adapter_config.json").read_text())
    if isinstance(facts["target_modules"], list):  # which peft takes from a set: another order in every process
        facts["target_modules"].sort()
    (folder / "adapter_config.json").write_text(json.dumps(facts, indent=2))


def save_merged(model: PeftModel, name: str | None, config: Config, folder: Path) -> None:
    """Write base and adapter (None: the base alone) as one plain checkpoint, in float32 if the base is, else in
    bfloat16; an nf4 base is dequantised, so that the checkpoint computes what the trainer does. The other files are the
    base's own; readers older than transformers 5 look for `rope_theta`."""
    base = model.get_base_model()
    layers = {path: layer for path, layer in base.named_modules() if isinstance(layer, LoraLayer)}
    state = {}
    for key, parameter in base.named_parameters():
        if "lora_" not in key:
            layer = layers.get(key.removesuffix(".base_layer.weight"))
            weight = dequantize_module_weight(layer.get_base_layer()) if layer else parameter
            weight = weight + layer.get_delta_weight(name) if layer and name else weight
            state[key.replace(".base_layer.", ".")] = weight.detach().to("cpu", base.dtype).contiguous()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_torch_state_dict(state, folder)
    source = config.path(config.base_model)
    source = (
        source
        if source.is_dir()
        else Path(snapshot_download(config.base_model, allow_patterns=["*.json", "*.txt", "*.jinja"]))
    )
    for file in source.iterdir():
        if file.suffix in (".json", ".txt", ".jinja") and file.name not in (
            "generation_config.json",
            "model.safetensors.index.json",
        ):
            shutil.copy(file, folder)
    settings = json.loads((folder / "config.json").read_text())
    settings.setdefault("rope_theta", (settings.get("rope_parameters") or {}).get("rope_theta", 10000.0))
    (folder / "config.json").write_text(
        json.dumps(settings | {"torch_dtype": str(base.dtype).removeprefix("torch.")}, indent=1)
    )
