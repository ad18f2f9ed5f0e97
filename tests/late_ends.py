"""A pytest plugin, `-p tests.late_ends`: the router is done with a request a moment after its last byte.

A client may have the last byte and ask for something else before the router has counted the request as over, which is
rare on a fast machine. Held for 30 ms, every test fails that looks at what is left before `Serving.answered`.
"""

import asyncio
from typing import Any

import pytest

SECONDS = 0.03


def pytest_sessionstart() -> None:
    """Hold every request of every router in this process."""
    from router.server.app import App

    answer = App.__call__

    async def answer_and_wait(app: App, scope: Any, receive: Any, send: Any) -> None:
        async def send_and_wait(message: Any) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                await asyncio.sleep(SECONDS)

        await answer(app, scope, receive, send_and_wait)

    pytest.MonkeyPatch().setattr(App, "__call__", answer_and_wait)
