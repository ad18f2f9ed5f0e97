"""Requests that are aborted while their KV is on its way from prefill to decode.

These tests pass without the patches too: no write on these servers is slow enough to land in pages that are used
again. They guard against requests that hang, pages that are lost and aborts that are not acknowledged.
`tests/sglang_ext/transfer/test_aborted_transfers.py` shows the fault.
"""

import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx

from tests.e2e.open_prompts import Prompt, some_ids, statuses, submit
from tests.e2e.servers import (
    TIMEOUT,
    Servers,
    both_legs,
    generate,
    is_quiet,
    long_text,
    overlay_state,
    passes,
    wait_for,
)

ABORTED = 16  # requests, more than fit at once
ROUNDS = 5  # at most, until one of them was aborted in its transfer
LONG, CHUNKS = 700, 6  # tokens, and the chunks in which they are prefilled and sent


def abort(base: str, rid: str, answer: "Future[Any]") -> None:
    """Abort a request on one server until it is answered there: one that has not come yet is not aborted."""
    while not answer.done():
        assert httpx.post(f"{base}/abort_request", json={"rid": rid}, timeout=TIMEOUT).status_code == 200
        time.sleep(0.2)


def transfers_failed(pair: Servers) -> int:
    """Requests that decode has given up in their transfer, by its log."""
    return pair.decode_log.read_text(errors="replace").count("Decode transfer failed for request")


def unacknowledged(pair: Servers) -> int:
    """Aborts so far of which prefill did not say in time that it writes no more."""
    return pair.decode_log.read_text(errors="replace").count("did not say within")


def test_aborts_in_the_middle_of_transfers(pair: Servers) -> None:
    questions = [f"{long_text(f'Kept {number}', 10)} The square of 12 is" for number in range(4)]
    failed, unsaid = transfers_failed(pair), unacknowledged(pair)
    before = [generate(pair.router, each, 16, model=pair.model)["output_ids"] for each in questions]
    answered = threading.Event()

    def aborted(number: int) -> int:
        rid = uuid.uuid4().hex
        with ThreadPoolExecutor(2) as legs:
            begun = passes(pair)
            asked = submit(legs, pair, some_ids(LONG), {"max_new_tokens": 400, "ignore_eos": True}, rid=rid)
            wait_for(lambda: overlay_state(pair.decode)["requests"]["decode_transfer"] > 0, 5)
            wait_for(lambda: passes(pair) >= begun + number % CHUNKS, 5)  # so that the aborts fall on different chunks
            # Decode first, as when it has waited too long: prefill goes on. It may not have had the request by then.
            for base, answer in zip((pair.decode, pair.prefill), reversed(asked), strict=True):
                abort(base, rid, answer)
            return asked[1].result().status_code

    def goes_on() -> list[bool]:
        """Others' answers, in pages that the aborted requests have had."""
        right = []
        while not answered.is_set():
            asked = (generate(pair.router, each, 16, model=pair.model)["output_ids"] for each in questions)
            right += [now == then for now, then in zip(asked, before, strict=True)]
        return right

    with ThreadPoolExecutor(9) as pool:
        others = pool.submit(goes_on)
        try:
            for _ in range(ROUNDS):
                assert len(list(pool.map(aborted, range(ABORTED)))) == ABORTED
                if transfers_failed(pair) > failed:
                    break
        finally:
            answered.set()
        assert all(others.result(TIMEOUT))
    assert transfers_failed(pair) > failed, "none was aborted in its transfer"
    assert wait_for(lambda: is_quiet(pair.decode) and is_quiet(pair.prefill)), overlay_state(pair.decode)
    again = [generate(pair.router, each, 16, model=pair.model)["output_ids"] for each in questions]
    assert again == before
    assert unacknowledged(pair) == unsaid


def test_a_segment_is_aborted_in_its_transfer(pair: Servers) -> None:
    ids = some_ids(700)
    wanted = generate(pair.plain, ids, 8)["output_ids"]
    prompt = Prompt(pair)
    with ThreadPoolExecutor(1) as pool:
        rid = uuid.uuid4().hex
        asked = pool.submit(prompt.append, ids[:690], 0, rid=rid)
        assert wait_for(lambda: overlay_state(pair.decode)["requests"]["decode_transfer"] > 0 or asked.done())
        for base in (pair.decode, pair.prefill):
            httpx.post(f"{base}/abort_request", json={"rid": rid}, timeout=TIMEOUT)
        asked.result(TIMEOUT)
    prompt.close()
    assert wait_for(lambda: is_quiet(pair.decode) and is_quiet(pair.prefill)), overlay_state(pair.decode)
    again = Prompt(pair)
    assert statuses(again.append(ids[:690])) == [200, 200]
    assert again.final(ids[690:], 690)[1].json()["output_ids"] == wanted
    assert both_legs(pair, "After the aborts")[1]["meta_info"]["completion_tokens"] > 0
