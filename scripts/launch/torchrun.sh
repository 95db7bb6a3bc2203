#!/usr/bin/env bash
# Trains on the GPUs of one or several nodes with torchrun.
#   One node with 8 GPUs:    scripts/launch/torchrun.sh --config configs/prior_512.yaml --data.faces FACES --run.folder RUN
#   Two nodes, on each one:  NUM_NODES=2 NODE_RANK=0 MASTER_ADDR=FIRST_NODE scripts/launch/torchrun.sh … (NODE_RANK=1 on the second)
# The run's folder and the faces must be the same files on all nodes. The same command continues the run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

devices=${DEVICES:-8}
nodes=${NUM_NODES:-1}
exec "${PYTHON:-.venv/bin/python}" -m torch.distributed.run \
    --nnodes "$nodes" --node-rank "${NODE_RANK:-0}" --nproc-per-node "$devices" \
    --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${MASTER_PORT:-29500}" \
    --signals-to-handle SIGTERM,SIGINT,SIGUSR1 --shutdown-timeout 120 --max-restarts 0 \
    -m train fit "$@" --trainer.devices "$devices" --trainer.num_nodes "$nodes"
