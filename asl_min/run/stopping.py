"""How processes end: a phase that gets SIGTERM after the step under way, with its state on the disk; a script of
several processes all together."""

import gc
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.utils import reduce
from torch import distributed
from torch.distributed.tensor.debug import _clear_sharding_prop_cache

EXIT_CODE = 128 + signal.SIGTERM
_told = False


@contextmanager
def on_sigterm() -> Iterator[None]:
    """Inside, SIGTERM only leaves a note."""
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


def leave_if_told(accelerator: Accelerator, message: str) -> None:
    """Exit with code 143 if any of the processes was told to end; all of them leave at the same step."""
    told = (
        reduce(torch.tensor(float(_told), device=accelerator.device), "sum").item()
        if accelerator.num_processes > 1
        else _told
    )
    if told:
        if accelerator.is_main_process:
            print(message, file=sys.stderr)
        raise SystemExit(EXIT_CODE)


def end_processes() -> None:
    """What a script of several processes does last: end their group, and with it gloo's threads, which may hold a
    tensor a little longer than the collective lasts. Python's own end while they do would abort the process with its
    work done (PyTorch issue 190489)."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
        _clear_sharding_prop_cache()  # it keeps the mesh of `shard.shard_base`, and so the group
        gc.collect()
