#!/bin/bash
# A run on several nodes of a SLURM cluster: a starting point. Checked by shellcheck; not run on a cluster.
#   sbatch configs/cluster/slurm.sh configs/qwen2.5-3b.yaml runs/mine
#   sbatch --nodes=4 configs/cluster/slurm.sh configs/qwen2.5-7b.yaml runs/mine 'server_url=[http://node7:8000,http://node8:8000]'
#
# Submit it from the checkout, after `make setup` there. All nodes must see the checkout with its .venv; the run folder
# may be on each node's own disk. The same command goes on from the last saved step of a job that was ended. Generation
# servers are jobs of their own, with the command of the service vllm in compose.yaml; they must see server_folder.
#SBATCH --job-name=asl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --open-mode=append
set -euo pipefail

config=${1:?usage: sbatch configs/cluster/slurm.sh CONFIG RUN [key=value ...]}
run=${2:?usage: sbatch configs/cluster/slurm.sh CONFIG RUN [key=value ...]}
shift 2

nodes=$SLURM_JOB_NUM_NODES
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
address=${hosts%%$'\n'*}
launch=(.venv/bin/accelerate launch --config_file configs/accelerate/multi_node.yaml
  --num_machines "$nodes" --num_processes "$((nodes * ${SLURM_GPUS_PER_NODE##*:}))"
  --main_process_ip "$address" --main_process_port "$((20000 + SLURM_JOB_ID % 10000))")
script=(-m asl_min.rounds --config "$config" --run "$run" "$@")

# SLURM_NODEID is each node's own
# shellcheck disable=SC2016
srun --kill-on-bad-exit=1 bash -c 'exec "${@:2:$1}" --machine_rank "$SLURM_NODEID" "${@:$1 + 2}"' \
  rank "${#launch[@]}" "${launch[@]}" "${script[@]}"
