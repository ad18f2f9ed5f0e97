"""KV transfer between host-memory pools."""

from collections.abc import Callable
from typing import Any

from sglang_ext.transfer.progress_thread import agents_without_progress_thread
from sglang_ext.upstream.transfer import KVArgs, KVManager


def use_host_memory(original: Callable[..., None], manager: KVManager, args: KVArgs, *rest: Any, **kwargs: Any) -> None:
    """AROUND `NixlKVManager.__init__`: declare the KV buffers as host memory, and run no progress thread.

    On a CPU server the thread would take a core of its own.
    """
    args.kv_data_mem_kinds = ["DRAM"] * len(args.kv_data_ptrs)
    with agents_without_progress_thread():
        original(manager, args, *rest, **kwargs)
