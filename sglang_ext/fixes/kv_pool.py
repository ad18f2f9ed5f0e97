"""The KV pool has the planned number of bytes.

SGLang gives the pool what is free at the start less a share of it, `--mem-fraction-static`. On a GPU that
several servers share, a server that starts again finds the others' memory taken: the share of its first start
then leaves a smaller pool, or none at all. `SGLANG_EXT_KV_POOL_BYTES` sets the size itself, on each GPU that the
server spans. What SGLang makes of it in tokens, and `--max-total-tokens`, stay as they are.
"""

import os
from collections.abc import Callable

from sglang_ext.errors import BadSetting, NoMemory
from sglang_ext.upstream.cache import PoolConfigurator

KV_POOL_BYTES = "SGLANG_EXT_KV_POOL_BYTES"
GIB = 1 << 30


def kv_pool_bytes() -> int | None:
    """The planned size; None leaves it to SGLang. Raises `BadSetting` when the variable is invalid."""
    text = os.environ.get(KV_POOL_BYTES, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise BadSetting(f"{KV_POOL_BYTES} is {text!r}, but must be a number of bytes above 0.")
    return int(text)


def size_as_planned(original: Callable[..., int], configurator: PoolConfigurator, pre_model_load_memory: float) -> int:
    """AROUND `KVCacheConfigurator._profile_available_bytes`: the bytes for the KV pool on this GPU.

    Raises:
        NoMemory: Less than that is free now, after the weights were loaded.
    """
    planned = kv_pool_bytes()
    if planned is None:
        return original(configurator, pre_model_load_memory)
    free = _free_bytes(configurator)
    if planned > free:
        raise NoMemory(
            f"{KV_POOL_BYTES} asks for a KV pool of {planned / GIB:.2f} GiB, but {free / GIB:.2f} GiB are free after "
            "the weights were loaded; end what else uses this memory, plan a smaller pool, or start the servers that "
            "share the GPU one after the other."
        )
    if configurator.mambaish_config is not None:
        # The states of linear attention are a part of what was planned.
        return int(configurator._handle_max_mamba_cache(planned / GIB) * GIB)
    return planned


def _free_bytes(configurator: PoolConfigurator) -> int:
    """What is free on the GPU of this server that has least, as SGLang itself measures it."""
    from sglang.srt.distributed.parallel_state import get_world_group
    from sglang.srt.utils.common import get_available_gpu_memory

    world = get_world_group()
    free_gib = get_available_gpu_memory(
        configurator.device, configurator.gpu_id, distributed=world.world_size > 1, cpu_group=world.cpu_group
    )
    return int(free_gib * GIB)
