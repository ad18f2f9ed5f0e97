"""What SGLang tells of a request's times with `--enable-metrics`."""

import orjson
import pytest

from router.moa.server_times import server_times


def event(text: str, **meta: float) -> bytes:
    return orjson.dumps({"text": text, "meta_info": {"id": "x", **meta}})


PREFILL = b"data: " + event("", forward_entry_time=100.2, prefill_finished_time=100.5, queue_time=0.125) + b"\n\n"


def test_queue_prefill_and_transfer_of_a_pair() -> None:
    decode = event('a text with "queue_time": 9', forward_entry_time=100.7, queue_time=0.0625)
    assert server_times(PREFILL, decode) == pytest.approx({"queue": 0.1875, "prefill": 0.3, "transfer": 0.1375})


@pytest.mark.parametrize(
    ("prefill", "decode"),
    [(b"", b""), (PREFILL, event("")), (event("only text"), event("", queue_time=1.0, forward_entry_time=2.0))],
)
def test_servers_that_do_not_tell(prefill: bytes, decode: bytes) -> None:
    assert server_times(prefill, decode) == {}


def test_clocks_of_two_hosts_make_no_negative_times() -> None:
    decode = event("", forward_entry_time=90.0, queue_time=0.0)
    assert server_times(PREFILL, decode)["transfer"] == 0.0
