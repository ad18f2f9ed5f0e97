"""`/drain`: the router takes no new requests for the models, and tells how many are still under way."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any

import orjson

from router.errors import NoWorker
from router.http.client_request import ClientRequest

RETRY_AFTER = 5.0  # seconds; by then a load balancer has seen that the router is not ready


class DrainEndpoints:
    """Starts, shows and ends draining.

    Args:
        requests: The requests that are being answered.

    Attributes:
        active: Whether the router is being drained.
    """

    def __init__(self, requests: Collection[ClientRequest]) -> None:
        self._requests = requests
        self.active = False

    def admit(self, request: ClientRequest) -> None:
        """Let a request for the models in, to be waited for.

        What another process of this router has let in and forwarded is that one's to count.

        Raises:
            NoWorker: The router is being drained.
        """
        if request.internal:
            return
        if self.active:
            raise self.refusal()
        request.drained = True

    def refusal(self) -> NoWorker:
        """Why there are no new requests."""
        return NoWorker(
            "the router is being drained and takes no new requests; ask another one.", retry_after=RETRY_AFTER
        )

    async def start(self, request: ClientRequest) -> None:
        """Take no new requests; those under way end."""
        self.active = True
        await self.show(request)

    async def end(self, request: ClientRequest) -> None:
        """Take requests again."""
        self.active = False
        await self.show(request)

    async def show(self, request: ClientRequest) -> None:
        """Whether the router is being drained, and how many requests are left."""
        left = sum(each.drained for each in self._requests)
        await request.send_json({"draining": self.active, "requests_left": left})

    def follow(self, answers: Iterable[bytes]) -> None:
        """Drain where another process of this router does, as `show` answered there: this one has replaced one."""
        for answer in answers:
            with suppress(orjson.JSONDecodeError):
                told: Any = orjson.loads(answer)
                self.active = self.active or (isinstance(told, dict) and told.get("draining") is True)
