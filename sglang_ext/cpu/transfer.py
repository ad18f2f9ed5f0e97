"""KV transfer between host-memory pools."""

from typing import Any


def declare_host_memory(manager: Any, args: Any, *rest: Any, **kwargs: Any) -> None:
    """BEFORE `NixlKVManager.__init__`: the KV pool's buffers are host memory."""
    args.kv_data_mem_kinds = ["DRAM"] * len(args.kv_data_ptrs)
