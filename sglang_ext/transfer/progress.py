"""Who drives NIXL's transfers."""

import os
from typing import Any


def without_progress_thread(config: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any] | None:
    """BEFORE `nixl_agent_config.__init__`: transfers advance when they are polled, as SGLang does until each is done.

    NIXL's own thread asks for UCX's events without a pause. Each time, UCX's cuda_ipc has every CUDA stream that still
    copies call a function of the host (`uct_cuda_base_iface_event_fd_arm`): streams fill with such calls, which copies
    queue behind, those of later transfers too. Where another process keeps the GPU busy, each call waits for its turn
    on it. A decode server keeps its thread: it copies nothing, and what comes to it comes unasked.
    """
    if not _wanted():
        return None
    return (config, False, *args[1:]), {k: v for k, v in kwargs.items() if k != "enable_prog_thread"}


def _wanted() -> bool:
    from sglang.srt.platforms import current_platform
    from sglang.srt.server_args import get_global_server_args

    from sglang_ext.cpu import is_active

    if is_active(current_platform):  # there it takes a core for each server
        return True
    if os.environ.get("SGLANG_EXT_NIXL_PROGRESS_THREAD", "0") != "0":
        return False
    return bool(get_global_server_args().disaggregation_mode == "prefill")
