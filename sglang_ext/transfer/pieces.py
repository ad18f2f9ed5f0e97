"""How many pieces the prefill server's transfers consist of."""

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Pieces:
    """Since the server started: pages sent, and the runs of pages that neighbour each other on both servers."""

    pages: int = 0
    runs: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, here: Any, there: Any) -> None:
        """Take one transfer's page numbers on either server, int arrays of shape `[pages]`."""
        if len(here) == 0:
            return
        apart = (np.diff(here) != 1) | (np.diff(there) != 1)
        with self._lock:
            self.pages += len(here)
            self.runs += 1 + int(np.count_nonzero(apart))

    def to_json(self) -> dict[str, int]:
        """As `/server_info` shows it."""
        return {"pages": self.pages, "runs": self.runs}


PIECES = Pieces()


def count(manager: Any, peer_name: str, here: Any, pointers: Any, there: Any, *args: Any, **kwargs: Any) -> None:
    """BEFORE `NixlKVManager.send_kvcache`, on one of several transfer threads."""
    PIECES.count(here, there)
