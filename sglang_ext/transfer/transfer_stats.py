"""Counts what the prefill server has sent."""

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sglang_ext.process_state import process_state
from sglang_ext.upstream.transfer import KVManager

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass
class TransferStats:
    """Pages sent since the server started, and the runs in which they are neighbours on both servers."""

    pages: int = 0
    runs: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, source_pages: "NDArray[np.int32]", target_pages: "NDArray[np.int32]") -> None:
        """Add one transfer: its page numbers on either server, each of shape `[pages]`."""
        if len(source_pages) == 0:
            return
        run_ends = (np.diff(source_pages) != 1) | (np.diff(target_pages) != 1)
        with self._lock:
            self.pages += len(source_pages)
            self.runs += 1 + int(np.count_nonzero(run_ends))

    def to_json(self) -> dict[str, int]:
        """Return what `/server_info` shows under `transfer`."""
        return {"pages": self.pages, "runs": self.runs}


def count_transfer(
    manager: KVManager,
    peer_name: str,
    prefill_kv_indices: "NDArray[np.int32]",
    dst_kv_ptrs: list[int],
    dst_kv_indices: "NDArray[np.int32]",
    *args: Any,
    **kwargs: Any,
) -> None:
    """BEFORE `NixlKVManager.send_kvcache`, which several transfer threads call."""
    process_state.get(TransferStats).count(prefill_kv_indices, dst_kv_indices)
