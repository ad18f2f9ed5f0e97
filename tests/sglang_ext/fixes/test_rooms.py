"""Two requests with one bootstrap room would end a scheduler: the second one is refused while the first one runs."""

from types import SimpleNamespace
from typing import Any

import pytest

from sglang_ext.fixes.rooms import FAKE_HOST, MIN_KEPT, RoomOwners, claim_room
from sglang_ext.process_state import process_state


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(process_state, "_parts", {RoomOwners: RoomOwners()})
    return SimpleNamespace(rid_to_state={})


def request(manager: Any, rid: str, room: Any, host: str = "10.0.0.1") -> Any:
    manager.rid_to_state[rid] = object()
    return SimpleNamespace(rid=rid, bootstrap_room=room, bootstrap_host=host)


def test_a_room_is_free_again_after_its_request(manager: Any) -> None:
    claim_room(manager, request(manager, "a", 5))
    claim_room(manager, request(manager, "b", 6))
    with pytest.raises(ValueError, match=r"^`bootstrap_room` is in use by another request"):
        claim_room(manager, request(manager, "c", 5))
    del manager.rid_to_state["a"]
    claim_room(manager, request(manager, "d", 5))
    with pytest.raises(ValueError, match="in use"):
        claim_room(manager, request(manager, "e", 5))


@pytest.mark.parametrize("room", [-1, 2**63, True, 1.5, "5"])
def test_what_is_no_room(manager: Any, room: Any) -> None:
    with pytest.raises(ValueError, match=r"^`bootstrap_room` must be an integer"):
        claim_room(manager, request(manager, "a", room))


def test_health_checks_share_a_room(manager: Any) -> None:
    for rid in "ab":
        claim_room(manager, request(manager, rid, 0, FAKE_HOST))
        claim_room(manager, request(manager, rid, None))


def test_rooms_of_ended_requests_are_forgotten(manager: Any) -> None:
    for number in range(5 * MIN_KEPT):
        claim_room(manager, request(manager, str(number), number))
        del manager.rid_to_state[str(number)]
    assert len(process_state.get(RoomOwners)._rids) <= MIN_KEPT + 2
