"""FSDP for QLoRA: each process keeps its share of the frozen base, and all of the adapters.

Asked for by Accelerate's `distributed_type: FSDP` (`configs/accelerate/fsdp.yaml`). The blocks' frozen weights, nf4
included, are sharded by torch's `fully_shard` and gathered block by block, in the forward and the backward pass;
adapters are whole and their gradients averaged by DDP, so that optimizer, checkpoints and saved adapters are those of
DDP, and so are the numbers (a test compares them). Deviation from Accelerate's own FSDP, which shards everything it is
given: an adapter is a hundredth of the base, and whole it can be saved, checked and sent to a server by one process.

All processes must run their forward passes in step, which those of an update and of the server's check do, and sampling
does not: another process may need fewer tokens. So sampling is a vLLM server's.
"""

import os

import torch
from accelerate import Accelerator
from accelerate.utils import patch_environment
from peft import PeftModel
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from asl_min.config import Config
from asl_min.run.errors import InputError

ASKED = "ACCELERATE_USE_FSDP"


def without_fsdp(**arguments) -> Accelerator:
    """An Accelerator of DDP processes, whatever the launcher says of FSDP."""
    with patch_environment(**{ASKED: "false"}):
        return Accelerator(**arguments)


def accelerator_of(config: Config) -> Accelerator:
    """This process among those of the launcher. Accelerate must be told that there is no GPU: else the CPU processes of
    `torchrun` take no notice of each other, and each runs the whole loop."""
    return without_fsdp(cpu=not torch.accelerator.is_available(), mixed_precision=config.mixed_precision)


def shard_base(model: PeftModel, accelerator: Accelerator, config: Config) -> None:
    """Share the blocks' frozen weights among the processes, if there are several and the launcher's config file says
    FSDP.

    Raises `InputError` where the trainer itself is to sample from them.
    """
    if accelerator.num_processes == 1 or os.environ.get(ASKED, "").lower() != "true":
        return
    if config.backend != "vllm":
        raise InputError(f"backend: {config.backend!r}: FSDP shards the base, so that sampling needs 'vllm'")
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for block in model.get_base_model().get_decoder().layers:
        adapters = {parameter for name, parameter in block.named_parameters() if "lora_" in name}
        fully_shard(block, mesh=mesh, reshard_after_forward=True, ignored_params=adapters)


def hide_shards(module: nn.Module) -> None:
    """Let DDP leave sharded parameters alone: they are frozen, and differ from process to process on purpose."""
    module._ddp_params_and_buffers_to_ignore = [
        name for name, parameter in module.named_parameters() if isinstance(parameter, DTensor)
    ]
