"""The starting points for clusters: what they would run is what accelerate, the config and compose.yaml know."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from helpers import ROOT

from asl_min.config import load_config
from asl_min.run.command import parse_overrides

CLUSTER = ROOT / "configs" / "cluster"
SRUN = """#!/bin/bash
# starts the command of each node in turn
while [[ $1 == --* ]]; do shift; done
for ((node = 0; node < SLURM_JOB_NUM_NODES; node++)); do SLURM_NODEID=$node "$@"; done
"""
SCONTROL = "#!/bin/bash\n[[ $* == 'show hostnames node[7-9]' ]] && printf 'node7\\nnode8\\nnode9\\n'\n"
ACCELERATE = '#!/bin/bash\nprintf "%s\\n" "$@" end\n'
SERVERS = "server_url=[http://node1:8000, http://node2:8000]"


def launched(command: list[str]):
    """What `accelerate launch` makes of its command line."""
    assert command[0] == "launch"
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(command[1:]))
    return args


def sbatch(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess:
    """Run the script as on the first of three nodes, with stand-ins for what a cluster has."""
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, ".venv/bin/accelerate": ACCELERATE}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    slurm = {"JOB_NUM_NODES": "3", "JOB_NODELIST": "node[7-9]", "JOB_ID": "123456", "GPUS_PER_NODE": "h100:4"}
    environment = {f"SLURM_{name}": value for name, value in slurm.items()}
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    command = ["bash", CLUSTER / "slurm.sh", *words]
    return subprocess.run(
        command, cwd=folder, env=os.environ | path | environment | variables, text=True, capture_output=True
    )


@pytest.fixture(scope="module")
def nodes(tmp_path_factory) -> list[list[str]]:
    """The command line of accelerate on each node."""
    done = sbatch(tmp_path_factory.mktemp("slurm"), "configs/qwen2.5-7b.yaml", "runs/my run", SERVERS)
    assert done.returncode == 0, done.stderr
    return [text.split("\n") for text in done.stdout.removesuffix("\nend\n").split("\nend\n")]


def test_slurm_gives_each_node_its_rank_and_the_first_nodes_address(nodes):
    args = [launched(command) for command in nodes]
    assert [(a.machine_rank, a.num_machines, a.num_processes) for a in args] == [(rank, 3, 12) for rank in range(3)]
    for one in args:
        prepare_multi_gpu_env(one)
        assert (one.nnodes, one.nproc_per_node, one.rdzv_endpoint) == ("3", "4", "node7:23456")


def test_slurm_passes_the_scripts_arguments_on_as_they_are(nodes):
    for command in nodes:
        args = launched(command)
        wanted = ["--config", "configs/qwen2.5-7b.yaml", "--run", "runs/my run", SERVERS]
        assert (args.module, args.training_script, args.training_script_args) == (True, "asl_min.rounds", wanted)


def test_slurm_without_a_config_says_how_it_is_called(tmp_path):
    done = sbatch(tmp_path)
    assert done.returncode and "usage: sbatch configs/cluster/slurm.sh CONFIG RUN" in done.stderr


# --- Kubernetes


@pytest.fixture(scope="module")
def manifests() -> dict[tuple[str, str], dict]:
    """By kind and name."""
    documents = yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text())
    return {(d["kind"], d["metadata"]["name"]): d for d in documents}


def container(manifest: dict) -> dict:
    return manifest["spec"]["template"]["spec"]["containers"][0]


@pytest.fixture(scope="module")
def trainer(manifests):
    """The command line of each trainer, as accelerate reads it."""
    (line,) = container(manifests["Job", "asl"])["args"]
    words = subprocess.run(
        ["bash", "-c", line.replace("exec .venv/bin/accelerate", "printf '%s\\n'")],
        env={"JOB_COMPLETION_INDEX": "1", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return launched(words)


def test_kubernetes_job_has_a_pod_for_each_machine_and_a_gpu_for_each_process(manifests, trainer):
    job = manifests["Job", "asl"]["spec"]
    assert job["completions"] == job["parallelism"] == trainer.num_machines == 2 and trainer.machine_rank == 1
    gpus = container(manifests["Job", "asl"])["resources"]["limits"]["nvidia.com/gpu"]
    assert trainer.num_processes == 2 * gpus and trainer.training_script == "asl_min.rounds"


def test_kubernetes_trainers_find_the_first_one_and_every_server_by_name(manifests, trainer):
    subdomain = manifests["Job", "asl"]["spec"]["template"]["spec"]["subdomain"]
    assert trainer.main_process_ip == f"asl-0.{subdomain}" and ("Service", subdomain) in manifests
    config = load_config(trainer.training_script_args[1], **parse_overrides(trainer.training_script_args[4:]))
    servers = manifests["StatefulSet", "vllm"]["spec"]
    names = [f"http://vllm-{i}.{servers['serviceName']}:8000" for i in range(servers["replicas"])]
    assert config.server_url == names and ("Service", servers["serviceName"]) in manifests
    assert config.search_url == "http://retriever:8001" and ("Service", "retriever") in manifests


def test_kubernetes_servers_have_the_options_of_compose_and_see_what_the_trainers_write(manifests):
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["vllm"]
    wanted = {word for word in compose["command"].split() if word.startswith("--")} - {"--gpu-memory-utilization"}
    server, trainer = (container(manifests[key]) for key in (("StatefulSet", "vllm"), ("Job", "asl")))
    assert {word.split("=")[0] for word in server["args"]} == wanted
    shared = [next(m for m in c["volumeMounts"] if m["name"] == "runs")["mountPath"] for c in (server, trainer)]
    assert shared == ["/app/runs", "/app/runs"]


@pytest.mark.parametrize("kind", ["Job", "StatefulSet", "Deployment"])
def test_kubernetes_containers_mount_volumes_that_are_there(manifests, kind):
    for (found, _), manifest in manifests.items():
        if found == kind:
            volumes = {volume["name"] for volume in manifest["spec"]["template"]["spec"]["volumes"]}
            assert {mount["name"] for mount in container(manifest)["volumeMounts"]} == volumes
