"""FSDP for QLoRA: each process holds a part of the frozen base and all of the adapters.

It is switched on by `distributed_type: FSDP` in Accelerate's config file (`configs/accelerate/fsdp.yaml`). torch's
`fully_shard` splits the frozen weights of each block, nf4 included, and gathers them block by block in the forward and
the backward pass. Adapters stay whole and DDP averages their gradients. So the optimizer, the checkpoints, the saved
adapters and the numbers are the same as with DDP alone (a test compares them).

Deviation: Accelerate's own FSDP also splits the adapters. An adapter has a hundredth of the base's size, and if it is
whole, one process can save it, check it and send it to a server.

A gathered block needs all processes in the same forward pass. Updates and the check of a server run the same passes
everywhere. Sampling does not, since processes may need different numbers of tokens, so a vLLM server has to sample.
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
from asl_min.model import fast_bfloat16
from asl_min.run.errors import InputError

ASKED = "ACCELERATE_USE_FSDP"


def accelerator_of(config: Config) -> Accelerator:
    """This process among those of the launcher, with DDP even if the launcher's config file says FSDP.

    Without a GPU, Accelerate must be told so: otherwise the processes of `torchrun` do not join one group, and each of
    them runs the whole loop.
    """
    precision = config.mixed_precision
    precision = "no" if precision == "bf16" and not fast_bfloat16() else precision
    with patch_environment(**{ASKED: "false"}):
        return Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision=precision)


def shard_base(model: PeftModel, accelerator: Accelerator, config: Config) -> None:
    """Split the frozen weights of the blocks among the processes, if there are several and the launcher's config file
    says FSDP.

    Raises `InputError` where the trainer itself would have to sample.
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
    """Make DDP ignore the split parameters: they are frozen, and each process has a different part of them."""
    module._ddp_params_and_buffers_to_ignore = [
        name for name, parameter in module.named_parameters() if isinstance(parameter, DTensor)
    ]
