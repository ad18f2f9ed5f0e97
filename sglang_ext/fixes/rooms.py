"""Bootstrap rooms that are in use: two requests with one room end the scheduler of a prefill or decode server."""

from collections.abc import Collection

from sglang_ext.process_state import process_state
from sglang_ext.upstream.request import HttpRequest
from sglang_ext.upstream.scheduler import TokenizerManager

FAKE_HOST = "2.2.2.2"  # SGLang's own health checks: nothing is transferred, so they may share a room
MAX_ROOM = 2**63 - 1
MIN_KEPT = 1024  # rooms to remember before those of ended requests are forgotten


class RoomOwners:
    """Which request of a tokenizer manager has which room."""

    def __init__(self) -> None:
        self._rids: dict[int, str] = {}  # by room; also of requests that have ended since

    def claim(self, room: int, rid: str, running: Collection[str]) -> bool:
        """Note that a request has a room; False if another one has it that is still running."""
        owner = self._rids.get(room)
        if owner is not None and owner != rid and owner in running:
            return False
        if len(self._rids) >= 2 * len(running) + MIN_KEPT:
            self._rids = {each: owner for each, owner in self._rids.items() if owner in running}
        self._rids[room] = rid
        return True


def claim_room(manager: TokenizerManager, obj: HttpRequest) -> None:
    """Note the room of a request; raises `ValueError` if a request that has not ended has it, or it is no room."""
    room, host = obj.bootstrap_room, obj.bootstrap_host
    if room is None or host == FAKE_HOST:
        return
    if isinstance(room, bool) or not isinstance(room, int) or not 0 <= room <= MAX_ROOM:
        raise ValueError(f"`bootstrap_room` must be an integer from 0 to {MAX_ROOM}.")
    if not process_state.get(RoomOwners).claim(room, obj.rid, manager.rid_to_state):
        raise ValueError("`bootstrap_room` is in use by another request; choose a new random one.")
