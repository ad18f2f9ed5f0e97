"""The command line and the environment of one vLLM server."""

import json
import os
from collections.abc import Sequence

from launch.config.schema import LaunchConfig, ModelConfig
from launch.machine.proxies import direct_connections
from launch.machine.units import GIB
from launch.planning.memory import CHUNKED_PREFILL_TOKENS, GPU_MAX_RUNNING_REQUESTS, VLLM_PREFILL_FLAG
from launch.planning.server_flags import CPU_MAX_RUNNING_REQUESTS, extra_arguments, visible_gpus


def vllm_argv(
    config: LaunchConfig,
    model: ModelConfig,
    *,
    model_path: str,
    host: str,
    port: int,
    kv_pool_bytes: int,
    gpu_fraction: float | None,
) -> tuple[str, ...]:
    """The arguments of the command `vllm`.

    Args:
        config: The launch's config.
        model: The model that the server has.
        model_path: The model's folder.
        host: The address that it listens on.
        port: The port of its HTTP server.
        kv_pool_bytes: Size of its KV pool on each GPU. On a CPU the environment says it.
        gpu_fraction: The share of each GPU's memory that it is planned with; None on a CPU.
    """
    argv = ["serve", model_path, "--served-model-name", model.name, "--host", host, "--port", str(port)]
    argv += ["--max-model-len", str(config.context_length), "--dtype", model.dtype]
    # The router asks every server every two seconds; each of its questions would be a line of the log.
    argv += ["--uvicorn-log-level", "warning"]
    if gpu_fraction is None:
        argv += ["--enforce-eager", "--max-num-seqs", str(CPU_MAX_RUNNING_REQUESTS)]
    else:
        # The size of the pool alone decides what is taken. The share only has to be free at the start: with vLLM's
        # own, nine tenths of the GPU, none would start beside another server.
        argv += ["--kv-cache-memory-bytes", str(kv_pool_bytes)]
        argv += ["--gpu-memory-utilization", f"{gpu_fraction:.4f}"]
        argv += ["--max-num-seqs", str(GPU_MAX_RUNNING_REQUESTS), VLLM_PREFILL_FLAG, str(CHUNKED_PREFILL_TOKENS)]
        argv += ["--tensor-parallel-size", str(model.tp)] if model.tp > 1 else []
    if model.sampling:
        argv += ["--override-generation-config", json.dumps(model.sampling, sort_keys=True)]
    # Last, since argparse takes the last of two: the config's own flags win.
    return (*argv, *extra_arguments(config, model, "plain"))


def vllm_env(config: LaunchConfig, gpus: Sequence[int], kv_pool_bytes: int, host: str) -> dict[str, str]:
    """Environment variables to set on top of the launcher's own."""
    env = visible_gpus(gpus) | {"VLLM_NO_USAGE_STATS": "1"}  # it would post them to its makers
    if not gpus:
        env |= {
            # An empty list would say to vLLM that GPUs come later: it would then run Triton's kernels, and fail.
            "CUDA_VISIBLE_DEVICES": "-1",
            "VLLM_TARGET_DEVICE": "cpu",
            "VLLM_CPU_KVCACHE_SPACE": str(kv_pool_bytes // GIB),
            # One core, as SGLang's servers: several share the machine, and vLLM would bind itself to all of them.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
        }
    env |= config.env
    return env | direct_connections(os.environ | env, (host,))
