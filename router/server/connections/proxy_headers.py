"""The client's address behind another proxy, by its `x-forwarded-*` headers."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from router.http.asgi import Receive, Scope, Send

AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
PROXY_HEADERS = (b"x-forwarded-for", b"x-forwarded-proto")
TRUSTED_PROXIES = "127.0.0.1,::1"  # uvicorn's default; the environment variable `FORWARDED_ALLOW_IPS` replaces it


def with_proxy_headers(app: AsgiApp) -> AsgiApp:
    """Wrap an app so that the client's address is the one a trusted proxy names.

    uvicorn's middleware does that; requests without such headers go past it, which is faster.
    """
    trusted = os.environ.get("FORWARDED_ALLOW_IPS", TRUSTED_PROXIES)
    middleware: Any = ProxyHeadersMiddleware(app, trusted)  # type: ignore[arg-type]

    def entry(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        for name, _ in scope.get("headers", ()):
            if name in PROXY_HEADERS:
                proxied: Awaitable[None] = middleware(scope, receive, send)
                return proxied
        return app(scope, receive, send)

    return entry
