"""How processes end: on SIGTERM, a phase finishes the step it is in, saves its state and exits; several processes end
together."""

import gc
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch
from accelerate import Accelerator
from accelerate.utils import reduce
from torch import distributed
from torch.distributed.tensor.debug import _clear_sharding_prop_cache

EXIT_CODE = 128 + signal.SIGTERM
_told = False


@contextmanager
def on_sigterm() -> Iterator[None]:
    """Inside, SIGTERM does not end the process: it is only remembered, until `told` asks."""
    global _told
    _told = False
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _note)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _note(*_: object) -> None:
    global _told
    _told = True


def told(accelerator: Accelerator) -> bool:
    """Whether any of the processes has received SIGTERM. All of them must ask, and get the same answer."""
    if accelerator.num_processes == 1:
        return _told
    return reduce(torch.tensor(float(_told), device=accelerator.device), "sum").item() > 0


def leave(accelerator: Accelerator, message: str) -> NoReturn:
    """Exit with code 143, all processes together."""
    accelerator.wait_for_everyone()  # a launcher ends the others as soon as one has left
    if accelerator.is_main_process:
        print(message, file=sys.stderr)
    raise SystemExit(EXIT_CODE)


def end_processes() -> None:
    """End the group of processes; the last thing that a script of several does.

    It must come before Python's own exit: a thread of gloo may hold a tensor a little longer than its collective lasts,
    and Python would then abort the process although its work is done (PyTorch issue 190489).
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()
        _clear_sharding_prop_cache()  # it refers to the device mesh of `shard.shard_base`, and so to the group
        gc.collect()
