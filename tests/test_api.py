"""The Python API, and the notebook that shows it."""

import os
import subprocess
import sys

import pytest
from helpers import ROOT

import asl_min
from asl_min.run import run_dir
from asl_min.run.errors import InputError


def test_notebook_runs_in_an_empty_folder(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "docs" / "notebook.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "accuracy" in done.stdout and "searches)" in done.stdout
    assert (tmp_path / "runs" / "notebook" / "rounds.png").stat().st_size > 10_000


def test_two_runs_in_one_process_do_not_feel_each_other(changed, tmp_path):
    """A run after another one, with other settings, gives what it gives alone."""
    values = {"grm_max_steps": 1, "policy_max_steps": 1, "pg_max_steps": 1, "eval_per_hop": 1, "eval_tasks": 2}
    found = []
    for name, seed in (("alone", 0), ("other", 1), ("after", 0)):
        run_dir.create(tmp_path / name, changed(rounds=1, verify_threshold=0.0, seed=seed, **values))
        run = asl_min.Run(tmp_path / name)
        assert run.config.seed == seed
        run.train_round(1)
        found.append([episode.ids for episode in run.episodes(1, "policy")])
    assert found[0] == found[2]
    answer = asl_min.Run(tmp_path / "after").ask("What is the capital of France?")
    assert answer.request.fields == {"question": "What is the capital of France?"} and answer.n_sampled > 0


def test_what_is_not_there_is_named(changed, tmp_path):
    run = asl_min.Run(tmp_path)
    with pytest.raises(InputError, match="holds no run"):
        run.train_round(1)
    run_dir.create(tmp_path, changed())
    with pytest.raises(InputError, match="must be one of prompt_generator"):
        run.episodes(1, "judge")
    with pytest.raises(InputError, match="phase prompt_generator of round 1 is not finished"):
        run.tasks(1)
    with pytest.raises(AttributeError, match="no attribute 'Runs'"):
        asl_min.Runs  # noqa: B018
