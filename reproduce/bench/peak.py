"""MiB that three updates add to a fresh process at their peak: python peak.py asl_min|trl FILE

The file: config and groups of episodes, pickled."""

import pickle
import sys
from pathlib import Path

from reproduce.bench.sides import Ours, Trl, memory, splits


def main(side: str, file: str) -> None:
    config, groups = pickle.loads(Path(file).read_bytes())
    rows, _ = splits(config)
    sided = Ours(config) if side == "asl_min" else Trl(config)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = memory("VmRSS")
    for _ in range(3):
        sided.learner.step(groups) if side == "asl_min" else sided.train(rows, 1, recorded=groups)
    print((memory("VmHWM") - before) // 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
