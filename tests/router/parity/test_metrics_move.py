"""Every metric of the peers that this router has: real traffic moves it, and its labels are theirs."""

import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import router
from router.parity.absent_metrics import ABSENT_METRICS
from router.parity.peers import PEERS, load_peer
from tests.router.parity.moving import SCENARIOS, Moves
from tests.router.support.aio import aio

LABELS = {name: set(labels) for peer in PEERS for name, labels in load_peer(peer).metrics.items()}  # smg's, at last
PRESENT = LABELS.keys() - ABSENT_METRICS.keys()


def test_there_is_traffic_for_every_metric() -> None:
    moved = [name for names in SCENARIOS.values() for name in names]
    assert len(moved) == len(set(moved))
    assert set(moved) == PRESENT


def test_the_dashboard_groups_by_labels_that_there_are() -> None:
    board = json.loads((Path(router.__file__).parent / "observability" / "grafana.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    grouped = 0
    for query in queries:
        for by, name in re.findall(r"sum by \((.+?)\) \(rate\((smg_\w+)", query):
            labels = LABELS[name.removesuffix("_bucket")]
            assert {word.strip() for word in by.split(",")} <= labels | {"le"}, query
            grouped += 1
    assert grouped > 20


@pytest.mark.parametrize("happens", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_traffic_moves(happens: Callable[[], Awaitable[Moves]]) -> None:
    @aio
    async def test() -> None:
        moves = await happens()
        for name in SCENARIOS[happens]:
            labels = moves.labels_of(name)
            assert labels, f"{name} has not moved"
            assert all(each == LABELS[name] for each in labels), f"{name} has {labels}, theirs {LABELS[name]}"
        exposed = {name for name, _ in moves.after if name.startswith("smg_")}
        assert exposed <= {f"{name}{suffix}" for name in PRESENT for suffix in ("", "_bucket", "_count", "_sum")}

    test()
