"""Bootstrap rooms that are in use: two requests with one room end the scheduler of a prefill or decode server."""

from sglang_ext.upstream.request import HttpRequest
from sglang_ext.upstream.scheduler import TokenizerManager

FAKE_HOST = "2.2.2.2"  # SGLang's own health checks: nothing is transferred, so they may share a room
MAX_ROOM = 2**63 - 1
MIN_KEPT = 1024  # rooms to remember before those of ended requests are forgotten

_owners: dict[int, str] = {}  # room -> request id; also of requests that have ended since


def claim_room(manager: TokenizerManager, obj: HttpRequest) -> None:
    """Note the room of a request; raises `ValueError` if a request that has not ended has it, or it is no room."""
    room, host = obj.bootstrap_room, obj.bootstrap_host
    if room is None or host == FAKE_HOST:
        return
    if isinstance(room, bool) or not isinstance(room, int) or not 0 <= room <= MAX_ROOM:
        raise ValueError(f"`bootstrap_room` must be an integer from 0 to {MAX_ROOM}.")
    owner = _owners.get(room)
    if owner is not None and owner != obj.rid and owner in manager.rid_to_state:
        raise ValueError("`bootstrap_room` is in use by another request; choose a new random one.")
    if len(_owners) >= 2 * len(manager.rid_to_state) + MIN_KEPT:
        for ended in [each for each, rid in _owners.items() if rid not in manager.rid_to_state]:
            del _owners[ended]
    _owners[room] = obj.rid
