#!/bin/sh
# Stands in for nvidia-cuda-mps-control, which needs a GPU: a daemon with -f, else a client that reads one order.
if [ "$1" = -f ]; then
    echo "GPUs: ${CUDA_VISIBLE_DEVICES-all}"
    [ -z "$MPS_FAILS" ] || { echo "no GPU is there"; exit 1; }
    [ -n "$MPS_IS_SILENT" ] || echo $$ > "$CUDA_MPS_PIPE_DIRECTORY/control"
    exec sleep 600
fi
read -r order
daemon=$(cat "$CUDA_MPS_PIPE_DIRECTORY/control") || exit 1
kill -0 "$daemon" || exit 1
[ "$order" != quit ] || kill "$daemon"
