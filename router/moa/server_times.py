"""How long the servers of a pair took to meet, had a request in their queues, prefilled it, and moved its KV.

SGLang tells it in the last event of an answer where it runs with `--enable-metrics`.
"""

import re
from contextlib import suppress

_NUMBER = rb'"%s"\s*:\s*([0-9.eE+-]+)'


def server_times(prefill: bytes, decode: bytes) -> dict[str, float]:
    """Seconds of `handshake`, `queue`, `prefill` and `transfer`; empty where the servers do not tell.

    The handshake goes from the prefill server's dispatch until it may begin. A decode server begins it only when it has
    room for the prompt and an answer. It is left out where the prefill server does not tell when that began.

    Args:
        prefill: The prefill server's whole response.
        decode: The decode server's last event.
    """
    try:
        began, ended = _last(prefill, b"forward_entry_time"), _last(prefill, b"prefill_finished_time")
        queued = _last(prefill, b"queue_time")
        decode_began, decode_queued = _last(decode, b"forward_entry_time"), _last(decode, b"queue_time")
    except ValueError:
        return {}
    # Both clocks are the wall's; on two hosts they may differ, and then a transfer would take less than nothing.
    seconds = {
        "queue": queued + decode_queued,
        "prefill": ended - began,
        "transfer": decode_began - decode_queued - ended,
    }
    with suppress(ValueError):
        seconds["handshake"] = began - queued - _last(prefill, b"api_server_dispatch_finish_ts")
    return {part: round(max(0.0, each), 6) for part, each in seconds.items()}


def _last(event: bytes, key: bytes) -> float:
    """The last number of that key; raises `ValueError` when there is none. In a text the quotes are escaped."""
    start = event.rfind(b'"%b"' % key)
    found = re.compile(_NUMBER % key).match(event, start) if start >= 0 else None
    if found is None:
        raise ValueError(key)
    return float(found[1])
