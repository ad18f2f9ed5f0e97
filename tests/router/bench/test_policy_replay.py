"""Replays of made traces: repeatable, and they tell policies apart."""

import pytest

from router.bench.load_balancing import main
from router.bench.policy_replay import replay
from router.load_balancing import POLICIES


def test_a_replay_can_be_repeated() -> None:
    for name in ("least_load", "cache_aware"):
        assert replay(name, "agents", 60, 4) == replay(name, "agents", 60, 4)


def test_keeping_sessions_together_finds_more_in_the_cache() -> None:
    spread = replay("round_robin", "agents", 300, 4).cached
    assert all(replay(name, "agents", 300, 4).cached > spread for name in ("manual", "consistent_hashing"))


def test_the_table_has_every_policy(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--replay", "20", "--workers", "2"])
    printed = capsys.readouterr().out
    assert all(printed.count(f"{name} ") == 2 for name in POLICIES)


def test_too_few_requests_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--replay", "1"])
    assert "--replay 1 gives no percentile" in capsys.readouterr().err
