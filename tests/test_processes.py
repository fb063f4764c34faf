"""The command for several CPU processes: they are one run, not several that write into one folder."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from helpers import ROOT, launch, launch_machines
from safetensors.torch import load_file

from asl_min.config import dump_config
from asl_min.rounds import run_rounds
from asl_min.run import machines, run_dir
from asl_min.run.inputs import prepare


@pytest.fixture(scope="module")
def small(config):
    """One round without evaluation; the random base sets no task, so that only the first phase trains."""
    return replace(config, rounds=1, eval_per_hop=0, eval_judgments=0, eval_tasks=0, oracle=None)


@pytest.fixture(scope="module")
def one(small, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("one") / "run"
    prepare(run, small)
    run_rounds(run)
    return run


@pytest.fixture(scope="module")
def two(small, tmp_path_factory) -> tuple[Path, str, str]:
    """The run folder of `torchrun -m asl_min.rounds`, and what its processes said."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "config.yaml").write_text(dump_config(small))
    said, log = launch("asl_min.rounds", "--config", str(folder / "config.yaml"), "--run", str(folder / "run"))
    return folder / "run", said, log


@pytest.fixture(scope="module")
def apart(small, tmp_path_factory) -> list[Path]:
    """The run folders of two machines that share nothing but the network. The second one's holds a file that the
    first one's does not: the rest of an earlier attempt at the run."""
    folder = tmp_path_factory.mktemp("apart")
    (folder / "config.yaml").write_text(dump_config(small))
    runs = [folder / "first" / "run", folder / "second" / "run"]
    (runs[1] / "round_01" / "policy").mkdir(parents=True)
    (runs[1] / "config.yaml").write_text(dump_config(small))
    (runs[1] / "round_01" / "policy" / run_dir.DONE).write_text("{}")
    launch_machines(*(["asl_min.rounds", "--config", str(folder / "config.yaml"), "--run", str(run)] for run in runs))
    return runs


def weights(run: Path, role: str = "policy") -> dict:
    return load_file(run_dir.phase_dir(run, 1, role) / "adapter" / "adapter_model.safetensors")


def furthest(a: dict, b: dict) -> float:
    """The greatest difference between two adapters of the same form."""
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


def played(run: Path) -> list[tuple]:
    lines = (run_dir.phase_dir(run, 1, "prompt_generator") / "episodes.jsonl").read_text().splitlines()
    return [(row["ids"], row["reward"]) for row in map(json.loads, lines)]


def test_two_machines_play_and_train_what_two_processes_of_one_do(apart, two):
    assert played(apart[0]) == played(two[0]) and furthest(weights(apart[0]), weights(two[0])) < 1e-6


def test_each_machine_ends_with_the_whole_run(apart):
    first, second = map(machines.digests, apart)
    assert first == second and {"summary.json", "report/report.html", "round_01/policy/done.json"} <= first.keys()
    assert run_dir.damage(run_dir.phase_dir(apart[1], 1, "policy")) is None


def test_only_one_of_two_processes_reports(two):
    assert sorted(json.loads(line)["rounds"] for line in two[1].splitlines() if line.startswith("{")) == [2]
    assert two[2].count("report: ") == 1


def test_two_processes_log_every_step_once(two, small):
    lines = (run_dir.phase_dir(two[0], 1, "prompt_generator") / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(small.pg_max_steps))


def test_two_processes_train_the_same_adapter_as_one(one, two):
    assert furthest(weights(one), weights(two[0])) < 1e-5


def test_sampling_from_a_shared_base_is_refused(small, tmp_path):
    (tmp_path / "config.yaml").write_text(dump_config(small))
    with pytest.raises(AssertionError, match="backend: 'local': FSDP shards the base, so that sampling needs 'vllm'"):
        launch(
            "asl_min.rounds",
            "--config",
            str(tmp_path / "config.yaml"),
            "--run",
            str(tmp_path / "run"),
            ACCELERATE_USE_FSDP="true",
        )


@pytest.mark.parametrize(
    ("name", "processes", "fsdp", "precision"),
    [
        ("cpu", 1, False, "no"),
        ("one_gpu", 1, False, "bf16"),
        ("multi_gpu", 8, False, "bf16"),
        ("fsdp", 8, True, "bf16"),
        ("multi_node", 16, False, "bf16"),
    ],
)
def test_launcher_reads_the_shipped_files(name, processes, fsdp, precision):
    """As `accelerate launch --config_file` does, up to the environment of the processes."""
    command = ["--config_file", str(ROOT / "configs" / "accelerate" / f"{name}.yaml"), "-m", "asl_min.rounds"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    assert (args.num_processes, args.use_fsdp, args.mixed_precision) == (processes, fsdp, precision)
    assert args.multi_gpu == (processes > 1 and not fsdp)
    if processes > 1:
        environment = prepare_multi_gpu_env(args)
        assert (environment.get("ACCELERATE_USE_FSDP"), environment.get("FSDP_CPU_RAM_EFFICIENT_LOADING")) == (
            ("true", "false") if fsdp else (None, None)
        )
