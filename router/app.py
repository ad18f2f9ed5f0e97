"""The ASGI application: paths to handlers, errors to answers, and the life of background work."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from router.errors import MethodNotAllowed, NotFound, RouterError
from router.exit import Judge, JudgeFailed, Judging
from router.http.asgi import ClientGone, Receive, Request, Scope, Send
from router.info import Info
from router.moa.clients import ClientRuns
from router.moa.context import Context
from router.moa.endpoint import MoaEndpoint
from router.moa.limits import Limits
from router.moa.looking import RunPages
from router.moa.store import RunStore
from router.moa.tree import load_trees
from router.pd import Dispatcher
from router.policies import make_policy
from router.proxy import Proxy
from router.settings import Settings
from router.workers import Registry, Worker

logger = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[None]]


class App:
    """One router.

    Args:
        settings: What it serves and how.
        judge: Measures how much answers agree; its own unless given, which it closes in the end.
    """

    def __init__(self, settings: Settings, judge: Judging | None = None) -> None:
        self._settings = settings
        self.registry = Registry(
            [Worker(url, "prefill", port) for url, port in settings.prefill]
            + [Worker(url, "decode") for url in settings.decode]
            + [Worker(url, "plain") for url in settings.plain]
        )
        self.dispatcher = Dispatcher(
            self.registry,
            make_policy(settings.prefill_policy or settings.policy, settings.cache_aware),
            make_policy(settings.decode_policy or settings.policy, settings.cache_aware),
        )
        trees = load_trees(settings.trees)
        self.judge = judge or Judge(settings.embedding_model)
        self._judges = any(tree.arm == "exit" and tree.exit.measures for tree in trees.trees)
        context = Context(self.dispatcher, judge=self.judge)
        limits = Limits(settings.max_runs, settings.max_runs_per_client)
        runs = RunStore()
        pages = RunPages(runs)
        moa = MoaEndpoint(context, trees, limits, runs)
        self._clients = ClientRuns(context, limits, runs)
        proxy = Proxy(self.registry, self.dispatcher, moa, self._clients)
        info = Info(self.registry, moa, self.dispatcher.metrics)
        self._routes: dict[str, dict[str, Handler]] = {
            "/generate": {"POST": proxy.generate},
            "/v1/chat/completions": {"POST": proxy.chat_completions},
            "/v1/completions": {"POST": proxy.completions},
            "/v1/models": {"GET": info.models},
            "/health": {"GET": info.health},
            "/workers": {"GET": info.workers},
            "/metrics": {"GET": info.metrics},
            "/runs": {"GET": pages.listed},
            "/runs/": {"GET": pages.one},
        }
        self._tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._answer(Request(scope, receive, send, max_body=self._settings.max_payload_bytes))

    async def _answer(self, request: Request) -> None:
        try:
            await self._handler(request)(request)
        except ClientGone:
            logger.info("client left: %s %s", request.method, request.path)
        except RouterError as error:
            await self._refuse(request, error)
        except Exception:
            logger.exception("unexpected error in %s %s", request.method, request.path)
            await self._refuse(request, RouterError("the router failed on this request; its log has the cause."))

    @staticmethod
    async def _refuse(request: Request, error: RouterError) -> None:
        if request.started:
            # The status line is out: closing without the last chunk is the only honest signal left.
            raise error
        await request.answer_json(error.body(), error.status)

    def _handler(self, request: Request) -> Handler:
        # A path that ends with a slash stands for all that begin with it.
        methods = self._routes.get(request.path) or self._routes.get(f"/{request.path.split('/')[1]}/")
        if methods is None:
            raise NotFound(f"there is no {request.path} here; paths: {', '.join(self._routes)}.")
        handler = methods.get(request.method)
        if handler is None:
            raise MethodNotAllowed(f"{request.path} takes {' or '.join(methods)}, not {request.method}.")
        return handler

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def start(self) -> None:
        """Probe the workers once and keep probing."""
        await self.registry.probe()
        self._tasks.append(asyncio.create_task(self._probe_forever()))
        if self._judges and isinstance(self.judge, Judge):
            self._tasks.append(asyncio.create_task(self._load(self.judge)))

    async def stop(self) -> None:
        """End background work and close connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._clients.close()
        await self.judge.close()
        await self.dispatcher.close()
        self.registry.close()

    @staticmethod
    async def _load(judge: Judge) -> None:
        """Before the first run needs it: the embedding model takes seconds to load."""
        try:
            await judge.start()
        except JudgeFailed as error:
            logger.warning("early exit waits for its judge: %s", error)

    async def _probe_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.probe_interval)
            try:
                await self.registry.probe()
            except Exception:  # a probe that fails oddly once must not be the last one
                logger.exception("unexpected error while probing the workers")
