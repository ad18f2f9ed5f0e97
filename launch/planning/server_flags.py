"""The command line and the environment of one SGLang server."""

import json
import os
from collections.abc import Sequence

from launch.config.schema import LaunchConfig, ModelConfig
from launch.machine.proxies import direct_connections
from launch.planning.memory import GPU_MAX_RUNNING_REQUESTS, Role
from sglang_ext.fixes.kv_pool import KV_POOL_BYTES

CPU_MAX_RUNNING_REQUESTS = 16
DECODE_GRAPH_BATCH_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, GPU_MAX_RUNNING_REQUESTS)
"""A batch runs in the graph of the next size; beyond the last one it would start every kernel from Python."""
PREFILL_GRAPH_TOKENS = ("16", "32", "64", "128", "256", "512", "1024")
PAGE_SIZE = "16"
"""Tokens; a transfer names every page of every layer, so pages of one token make it slow."""


def server_argv(
    config: LaunchConfig,
    model: ModelConfig,
    role: Role,
    *,
    model_path: str,
    on_gpu: bool,
    host: str,
    port: int,
    bootstrap_port: int | None,
    nccl_port: int,
    kv_tokens: int,
) -> tuple[str, ...]:
    """The arguments after `python -m sglang.launch_server`.

    SGLang's own warm-up is skipped: in a P/D server it uses the fake bootstrap host, so it never tries the transfer,
    and it kills the server when it fails. The launcher sends one real generation to each model instead.

    Args:
        config: The launch's config.
        model: The model that the server has.
        role: Whether it is the prefill or the decode server of a pair, or a plain one.
        model_path: The model's folder.
        on_gpu: Whether it runs on GPUs.
        host: The address that it listens on.
        port: The port of its HTTP server.
        bootstrap_port: Where decode servers meet it; None unless it is a prefill server.
        nccl_port: The port by which its ranks meet.
        kv_tokens: Size of its KV pool, in tokens.
    """
    argv = ["--model-path", model_path, "--served-model-name", model.name]
    argv += ["--host", host, "--port", str(port), "--nccl-port", str(nccl_port)]
    if role != "plain":
        argv += ["--disaggregation-mode", role, "--disaggregation-transfer-backend", "nixl"]
    if bootstrap_port is not None:
        argv += ["--disaggregation-bootstrap-port", str(bootstrap_port)]
    if role == "decode":
        argv += ["--disaggregation-decode-enable-radix-cache"]
    argv += ["--context-length", str(config.context_length), "--max-total-tokens", str(kv_tokens)]
    argv += ["--skip-server-warmup"]
    argv += _gpu_flags(config, model, role) if on_gpu else _cpu_flags(config)
    if model.dtype != "auto":
        argv += ["--dtype", model.dtype]
    if model.shape is not None:
        argv += ["--load-format", "dummy", "--skip-tokenizer-init", "--grammar-backend", "none"]
    if model.sampling:
        argv += ["--preferred-sampling-params", json.dumps(model.sampling, sort_keys=True)]
    # Last, since argparse takes the last of two: the config's own flags win.
    return (*argv, *extra_arguments(config, model, role))


def server_env(config: LaunchConfig, gpus: Sequence[int], kv_pool_bytes: int, host: str) -> dict[str, str]:
    """Environment variables to set on top of the launcher's own.

    The overlay makes the KV pool as large as planned. SGLang's own `--mem-fraction-static` refers to what is FREE when
    a server starts, so on a shared GPU a server that is started again would get another pool, or none.

    A server sees only its own GPUs, through CUDA_VISIBLE_DEVICES rather than `--base-gpu-id`: the
    numbers need not be evenly spaced, and no library can put a stray context (0.5 GiB) on GPU 0.
    NIXL's transfer does not suffer: UCX's cuda_ipc opens memory of GPUs that are masked out in its
    own process (openucx/ucx pull request 4137).
    """
    env = visible_gpus(gpus)
    if gpus:
        if len(gpus) > 1:
            # The plan counts with the fullest GPU; SGLang would refuse those that are not about equally free.
            env["SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK"] = "0"
    else:
        env |= {
            "OMP_NUM_THREADS": "1",
            # There is no core dump to wait for: without this a crashed server lingers for a minute.
            "SGLANG_CUDA_COREDUMP_BEFORE_CRASH_WAIT_SECS": "0",
            "SGLANG_PLATFORM": "faster_moa_cpu",
        }
    env |= {KV_POOL_BYTES: str(kv_pool_bytes)} | config.env
    # Decode asks prefill's bootstrap server by HTTP, which no proxy outside could reach.
    return env | direct_connections(os.environ | env, (host,))


def visible_gpus(gpus: Sequence[int]) -> dict[str, str]:
    """Variables by which a server sees the GPUs of these NVML indexes, and no others."""
    if not gpus:
        return {"CUDA_VISIBLE_DEVICES": ""}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus))}


def extra_arguments(config: LaunchConfig, model: ModelConfig, role: Role) -> list[str]:
    """The flags that the config adds for this server."""
    of_all = [] if model.engine == "vllm" else config.server_args
    of_role = {"prefill": model.prefill_args, "decode": model.decode_args}.get(role, [])
    return of_all + model.server_args + of_role


def _gpu_flags(config: LaunchConfig, model: ModelConfig, role: Role) -> list[str]:
    argv = ["--device", "cuda", "--page-size", PAGE_SIZE]
    if config.attention_backend is not None:
        argv += ["--attention-backend", config.attention_backend]
    if config.sampling_backend is not None:
        argv += ["--sampling-backend", config.sampling_backend]
    argv += ["--max-running-requests", str(GPU_MAX_RUNNING_REQUESTS)]
    if role != "decode":
        # Graphs halve the time of a short prefill, which is all kernel launches; these few sizes add 40 s to the start.
        argv += ["--cuda-graph-bs-prefill", *PREFILL_GRAPH_TOKENS]
        if role == "prefill" and config.attention_backend == "flashinfer":
            # Attention inside the graph: otherwise a few tokens behind a long prefix take three kernels a layer, each
            # started from Python, for twice the time of the same tokens alone.
            argv += ["--cuda-graph-backend-prefill", "full"]
    else:
        argv += ["--cuda-graph-backend-prefill", "disabled"]
    if role != "prefill":
        argv += ["--cuda-graph-bs-decode", *map(str, DECODE_GRAPH_BATCH_SIZES)]
    return argv + (["--tp-size", str(model.tp)] if model.tp > 1 else [])


def _cpu_flags(config: LaunchConfig) -> list[str]:
    argv = ["--device", "cpu"]
    argv += ["--attention-backend", config.attention_backend or "torch_native"]
    argv += ["--sampling-backend", config.sampling_backend or "pytorch"]
    argv += ["--max-running-requests", str(CPU_MAX_RUNNING_REQUESTS)]
    # With the overlap schedule the first prefix hit records a CUDA event and kills the server.
    argv += ["--disable-overlap-schedule", "--sleep-on-idle"]
    return [*argv, "--disable-prefill-cuda-graph", "--disable-decode-cuda-graph"]
