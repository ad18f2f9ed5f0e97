"""What the overlay says of a server that has nothing to do."""

from typing import Any


def is_idle(state: dict[str, Any]) -> bool:
    """Whether the server has no request and every KV slot is free or evictable.

    Args:
        state: The overlay's part of its `/server_info`.
    """
    kv = state["kv"]
    return not any(state["requests"].values()) and kv["protected"] == 0 and kv["free"] + kv["evictable"] == kv["total"]
