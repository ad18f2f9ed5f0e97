"""Sends requests to both servers of a pair."""

from typing import Any

import orjson

from router.dispatch.background_posts import BackgroundPosts
from router.dispatch.exchange_request import ExchangeRequest
from router.dispatch.exchange_scope import ExchangeScope
from router.dispatch.pair_times import PairTimes
from router.dispatch.rank_fields import rank_fields_of_pair
from router.worker_selection.selector import WorkerSelector
from router.workers.worker import Pair


class Dispatcher:
    """Sends requests to pairs.

    Args:
        selector: Selects the workers that callers send to.
        times: Counts how long exchanges take; None counts them where nobody reads it.

    Attributes:
        registry: The workers.
        background: Posts whose responses nobody awaits, such as aborts.
    """

    def __init__(self, selector: WorkerSelector, times: PairTimes | None = None) -> None:
        self.selector = selector
        self.registry = selector.registry
        self.background = BackgroundPosts()
        self.times = times or PairTimes()

    def exchange(self, pair: Pair, request: ExchangeRequest) -> ExchangeScope:
        """Send a request to both servers of a pair: `async with dispatcher.exchange(...) as exchange`.

        Entering the block returns once decode's response has started. Leaving it ends the request on both servers.

        Raises:
            BadRequest: See `router_fields`.
            NoWorker: A circuit breaker of the pair lets no request through; nothing was sent.
            RouterError: A leg failed before decode's response started.
            TimeoutError: Decode's response did not start within `ExchangeRequest.start_timeout`.
        """
        return ExchangeScope(pair, request, self.background, self.times)

    def post_to_both(self, pair: Pair, path: str, body: dict[str, Any]) -> None:
        """Post to both servers, to the pair's ranks, in the background; responses and errors are ignored."""
        for worker, ranks in zip((pair.prefill, pair.decode), rank_fields_of_pair(body, pair), strict=True):
            self.background.post(worker, path, orjson.dumps(body | ranks))

    async def close(self) -> None:
        """Wait for posts in the background, for a few seconds at most."""
        await self.background.close()
