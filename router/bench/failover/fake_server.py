"""A fake server that takes some time for an answer: `python -m router.bench.failover.fake_server ROLE PORT`."""

import asyncio
import sys
from functools import partial
from typing import cast

import uvloop

from router.bench.fake_pair import Server
from router.bench.fake_responses import Role

ANSWER_SECONDS = 0.05


class SlowServer(Server):
    """One connection; what is not a GET is answered after `ANSWER_SECONDS`."""

    def _respond(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET "):
            super()._respond(head, body)
        else:
            self._loop.call_later(ANSWER_SECONDS, super()._respond, head, body)


async def serve(role: Role, port: int) -> None:
    """Serve one role until the process is killed."""
    await asyncio.get_running_loop().create_server(partial(SlowServer, role), "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(cast(Role, sys.argv[1]), int(sys.argv[2])))
