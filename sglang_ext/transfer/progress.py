"""Who drives NIXL's transfers."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any


def poll_transfers(
    original: Callable[..., None], manager: Any, args: Any, mode: Any, *rest: Any, **kwargs: Any
) -> None:
    """AROUND `NixlKVManager.__init__`: its agent gets no progress thread where SGLang's polling is better.

    A prefill server polls each transfer until it is done, which advances it. NIXL's own thread asks for UCX's events
    without a pause. Each time, UCX's cuda_ipc has every CUDA stream that still copies call a function of the host
    (`uct_cuda_base_iface_event_fd_arm`): streams fill with such calls, which copies queue behind, those of later
    transfers too. Where another process keeps the GPU busy, each call waits for its turn on it. A decode server keeps
    its thread: it copies nothing, and what comes to it comes unasked. Other agents of the process keep theirs.
    """
    with _agents_without_thread() if _better_polled(mode) else nullcontext():
        original(manager, args, mode, *rest, **kwargs)


def _better_polled(mode: Any) -> bool:
    from sglang.srt.disaggregation.utils import DisaggregationMode
    from sglang.srt.environ import envs
    from sglang.srt.platforms import current_platform

    from sglang_ext.cpu import is_active

    if is_active(current_platform):  # there a thread takes a core for each server
        return True
    if os.environ.get("SGLANG_EXT_NIXL_PROGRESS_THREAD", "0") != "0":
        return False
    return bool(mode == DisaggregationMode.PREFILL) and envs.SGLANG_DISAGGREGATION_NIXL_BACKEND.get() == "UCX"


@contextmanager
def _agents_without_thread() -> Iterator[None]:
    """`NixlKVManager` takes the class from its module when it makes its agent's configuration."""
    import nixl._api

    usual = nixl._api.nixl_agent_config
    nixl._api.nixl_agent_config = partial(usual, enable_prog_thread=False)
    try:
        yield
    finally:
        nixl._api.nixl_agent_config = usual
