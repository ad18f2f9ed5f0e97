"""The memory of routers under a mixed load: what is asked, and what is told."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import orjson
import pytest

from router.bench.fake_pair import fake_pair
from router.bench.memory.__main__ import parse, table
from router.bench.memory.mixed_load import MixedLoad
from router.bench.memory.requests import LONG, Request, draw
from router.bench.processes import free_port
from router.bench.routers import pair_arguments, router_command, running_router


def _drawn(count: int) -> list[Request]:
    chance = random.Random(3)
    return [draw(chance) for _ in range(count)]


def test_all_kinds_of_requests_come_and_no_prompt_twice() -> None:
    drawn = _drawn(500)
    assert len({each.body for each in drawn}) == 500
    kinds = Counter((each.path, "stream" in orjson.loads(each.body), each.leaves) for each in drawn)
    assert set(kinds) == {
        ("/generate", False, False),
        ("/generate", True, False),
        ("/generate", True, True),
        ("/v1/chat/completions", False, False),
    }
    assert LONG / 2 < max(len(each.body) for each in drawn) < LONG + 2000
    assert drawn == _drawn(500)


def test_a_router_answers_all_of_it(tmp_path: Path) -> None:
    port = free_port()
    with (
        fake_pair(tmp_path) as servers,
        running_router("ours", router_command(pair_arguments(*servers), port), port, tmp_path) as target,
    ):
        load = MixedLoad(target.url, rate=50)
        asyncio.run(load.run(2.0))
    assert set(load.results) == {"answered", "left"}
    assert load.results.total() == 100


def test_the_table_names_what_was_not_answered() -> None:
    made = table([{"router": "ours", "megabytes": [50.0, 60.0, 61.0], "requests": {"answered": 7, "503": 2}}], 2)
    assert [list(column.cells) for column in made.columns] == [["ours"], ["50"], ["60"], ["61"], ["7"], ["0"], ["2"]]


@pytest.mark.parametrize("wrong", [("--minutes", "0"), ("--rate", "0")])
def test_nothing_to_measure_is_refused(wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(list(wrong))
    assert "nothing is measured" in capsys.readouterr().err
