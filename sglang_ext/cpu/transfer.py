"""KV transfer between host-memory pools."""

from typing import Any


def declare_host_memory(manager: Any, args: Any, *rest: Any, **kwargs: Any) -> None:
    """BEFORE `NixlKVManager.__init__`: the KV pool's buffers are host memory."""
    args.kv_data_mem_kinds = ["DRAM"] * len(args.kv_data_ptrs)


def without_progress_thread(config: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """BEFORE `nixl_agent_config.__init__`: transfers advance when they are polled."""
    return (config, False, *args[1:]), {k: v for k, v in kwargs.items() if k != "enable_prog_thread"}
