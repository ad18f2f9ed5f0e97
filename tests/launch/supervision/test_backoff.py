"""The delay before a restart."""

from launch.supervision.backoff import Backoff


def test_the_delay_doubles_up_to_a_minute() -> None:
    backoff = Backoff()
    assert [backoff.next_delay(10.0) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_starts_that_all_fail_end() -> None:
    backoff = Backoff()
    assert [backoff.next_delay(None) for _ in range(10)] == [1, 2, 4, 8, 16, 32, 60, 60, 60, None]


def test_one_start_that_succeeds_is_a_new_chance() -> None:
    backoff = Backoff()
    delays = [backoff.next_delay(seconds) for seconds in (*[None] * 9, 5.0, *[None] * 10)]
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60, *[60] * 10, None]


def test_a_service_that_was_healthy_starts_from_the_shortest_delay() -> None:
    backoff = Backoff()
    assert [backoff.next_delay(seconds) for seconds in (10.0, 300.0, 301.0, 5.0)] == [1, 2, 1, 2]
