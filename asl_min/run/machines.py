"""One run on several machines: each has the whole run in a folder of its own, or they share one disk.

The first process of all writes; the others read what earlier phases left. So before each phase, and at the end of the
run, the folder of every other machine is made a copy of the first machine's. A machine that joins with an empty folder
gets everything, the state of an interrupted phase too. On a shared disk there is nothing to copy.
"""

from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from asl_min.run import durable

PHASES = "round_"
"""What the names of the folders begin with whose files are deleted on the others where the first machine has none."""


def copy_run(accelerator: Accelerator, run: Path) -> None:
    """Bring the first machine's run folder to the others. Every process calls it, and none goes on before it is done.
    Only files that differ are sent."""
    if sum(gather_object([accelerator.is_local_main_process])) == 1:
        accelerator.wait_for_everyone()
        return
    mine = digests(run) if accelerator.is_local_main_process else None
    every = gather_object([mine])
    first, copies = every[0], [found for found in every if found is not None]
    for name, digest in first.items():
        if all(copy.get(name) == digest for copy in copies):
            continue
        (data,) = broadcast_object_list([(run / name).read_bytes() if accelerator.is_main_process else None])
        if mine is not None and mine.get(name) != digest:
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            durable.write_bytes(run / name, data)
    for name in mine or {}:
        if name not in first and name.startswith(PHASES):
            (run / name).unlink(missing_ok=True)
    accelerator.wait_for_everyone()


def digests(run: Path) -> dict[str, str]:
    """SHA-256 of each file of a run, by its path in the folder. What belongs to one machine is left out: hidden files,
    such as the lock, and what trackers keep."""
    names = (path.relative_to(run) for path in sorted(run.rglob("*")) if path.is_file())
    own = (name for name in names if name.parts[0] != "trackers" and not name.name.startswith("."))
    return {str(name): durable.digest(run / name) for name in own}
