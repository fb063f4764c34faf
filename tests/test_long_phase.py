"""The bench of long phases: what it says of steps that stay alike and of steps that grow."""

import subprocess
import sys
from itertools import pairwise

import psutil
import pytest

from reproduce.bench.long_phase import figure_of, gaps, row, watch

WRITER = """
import sys, time
held = []
for step in range(3):
    held.append(b"x" * (step == 1) * 50 * 2**20)
    print(step, file=open(sys.argv[1], "a"))
    time.sleep(0.6)
"""


def test_growing_steps_show_in_the_ratio_of_late_to_early():
    """100 steps: the second tenth has the values 10 to 19 and the last 90 to 99."""
    steps = {"seconds": [0.5] * 100, "cpu": [float(i) for i in range(100)], "rss": [800.0] * 100}
    found = row(steps)
    assert found["steps"] == 100 and found["seconds"] == {"early": 0.5, "late": 0.5, "ratio": 1.0}
    assert found["cpu"] == {"early": 14.5, "late": 94.5, "ratio": round(94.5 / 14.5, 4)} and found["rss"]["ratio"] == 1


def test_seconds_of_a_step_lie_between_its_line_and_the_one_before():
    assert gaps((1.0, 3.0, 6.0)) == [2.0, 2.0, 3.0]


def test_figure_has_a_panel_for_each_measure_and_a_line_for_each_phase():
    steps = {"seconds": [0.5] * 100, "cpu": [0.4] * 100, "rss": [800.0] * 100}
    axes = figure_of({"policy": steps, "reward_model": steps}).axes
    assert [len(axis.lines) for axis in axes] == [2, 2, 2] and axes[2].get_ylabel() == "resident memory, MiB"
    assert list(axes[0].lines[0].get_ydata()) == [0.5] * 50


def test_watch_sees_each_line_with_the_process_that_wrote_it(tmp_path):
    """The process takes 50 MiB before its second line."""
    log = tmp_path / "metrics.jsonl"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(log)]) as process:
        seen = watch(psutil.Process(process.pid), log)
    times, _, held = zip(*seen, strict=True)
    assert len(seen) == 3 and all(0.3 < b - a < 20 for a, b in pairwise(times))
    assert 45 * 2**20 < held[1] - held[0] < 60 * 2**20 and held[2] == pytest.approx(held[1], rel=0.1)
