#!/usr/bin/env bash
# Four nodes of eight devices under SLURM: sbatch examples/clusters/slurm.sh run.yaml
#SBATCH --job-name=probtune
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
# SIGTERM before the end of the time: a checkpoint is written, and the requeued job goes on from it.
set -euo pipefail
config=${1:?usage: sbatch slurm.sh run.yaml}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun --nnodes "$SLURM_NNODES" --nproc_per_node 8 \
    --rdzv_backend c10d --rdzv_id "$SLURM_JOB_ID" --rdzv_endpoint "$head:29500" \
    -m probtune tune --config "$config"
