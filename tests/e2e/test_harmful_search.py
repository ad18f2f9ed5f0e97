"""A search for requests that end a server: every sampling field at its edges, small grammars and schemas.

A short look here, always the same; with `SEARCH_SECONDS` it is a new one each time and takes so long, and
`python -m tests.nightly --only "search"` takes an hour. `python -m tests.harmful` searches on a GPU.
"""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.e2e.harmful_requests import requests
from tests.e2e.servers import MODEL, Servers, generate, post

SECONDS = float(os.environ.get("SEARCH_SECONDS", "0"))
NEIGHBOUR = "The capital of France is"


@pytest.mark.claim("small-requests-kill-no-server")
def test_no_request_ends_a_server(servers: Servers) -> None:
    """Whatever is sent gets an answer or is refused, and a request beside it is served as ever."""
    expected = generate(servers.router, NEIGHBOUR, 3)["output_ids"]
    deadline = time.monotonic() + SECONDS
    tried = 0

    # Without shrinking and replay: each failure may cost a server.
    @settings(
        max_examples=100 if SECONDS else 20,
        deadline=None,
        database=None,
        derandomize=not SECONDS,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(requests, min_size=1, max_size=4))
    def search(drawn: list[tuple[str, dict[str, Any]]]) -> None:
        nonlocal tried
        if SECONDS and time.monotonic() > deadline:
            return
        tried += len(drawn)
        with ThreadPoolExecutor(5) as pool:
            beside = pool.submit(generate, servers.router, NEIGHBOUR, 3)
            answers = [pool.submit(post, f"{servers.router}{path}", {"model": MODEL, **body}) for path, body in drawn]
            for (path, body), answer in zip(drawn, answers, strict=True):
                response = answer.result()
                if response.status_code >= 500:
                    pytest.fail(f"{path} {json.dumps(body)}: {response.status_code} {response.text[:500]}")
                assert ".py" not in response.text, f"{path} {json.dumps(body)}: {response.text[:500]}"
            assert beside.result()["output_ids"] == expected, drawn

    search()
    while time.monotonic() < deadline:
        search()
    print(f"{tried} requests")
    assert tried
