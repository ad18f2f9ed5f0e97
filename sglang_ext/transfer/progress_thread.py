"""Which servers run NIXL's progress thread.

SGLang polls each transfer of a prefill server until it is done, and polling advances it. NIXL's progress
thread asks for UCX's events without a pause. For each request, UCX's cuda_ipc makes every CUDA stream that
still copies call a host function (`uct_cuda_base_iface_event_fd_arm`). The streams fill with such calls, and
later copies queue behind them. Where another process keeps the GPU busy, each call waits for its turn.

A decode server keeps its thread: it copies nothing, and does not know when KV arrives.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from sglang_ext.upstream.transfer import KVArgs, KVManager


def disable_progress_thread(
    original: Callable[..., None], manager: KVManager, args: KVArgs, mode: Any, *rest: Any, **kwargs: Any
) -> None:
    """AROUND `NixlKVManager.__init__`: a prefill server with UCX gets a NIXL agent without progress thread."""
    with agents_without_progress_thread() if _polling_suffices(mode) else nullcontext():
        original(manager, args, mode, *rest, **kwargs)


@contextmanager
def agents_without_progress_thread() -> Iterator[None]:
    """NIXL agents made inside have no progress thread; others of the process keep theirs."""
    import nixl._api

    # `NixlKVManager.__init__` imports the class from this module.
    agent_config = nixl._api.nixl_agent_config
    nixl._api.nixl_agent_config = partial(agent_config, enable_prog_thread=False)
    try:
        yield
    finally:
        nixl._api.nixl_agent_config = agent_config


def _polling_suffices(mode: object) -> bool:
    """Whether SGLang's polling drives the transfers of a server in this `DisaggregationMode`."""
    from sglang.srt.disaggregation.utils import DisaggregationMode
    from sglang.srt.environ import envs

    if os.environ.get("SGLANG_EXT_NIXL_PROGRESS_THREAD", "0") != "0":
        return False
    return bool(mode == DisaggregationMode.PREFILL) and envs.SGLANG_DISAGGREGATION_NIXL_BACKEND.get() == "UCX"
