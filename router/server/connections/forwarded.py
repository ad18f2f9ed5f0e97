"""Who asks, behind another proxy: uvicorn's middleware, entered only by requests that a proxy has marked."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from router.http.asgi import Receive, Scope, Send

Entry = Callable[[Scope, Receive, Send], Awaitable[None]]
MARKS = (b"x-forwarded-for", b"x-forwarded-proto")
TRUSTED = "127.0.0.1,::1"  # proxies believed, unless `FORWARDED_ALLOW_IPS` names others; as uvicorn has it


def behind_proxies(app: Entry) -> Entry:
    """The app, told the client that a trusted proxy names."""
    told: Any = ProxyHeadersMiddleware(app, os.environ.get("FORWARDED_ALLOW_IPS", TRUSTED))  # type: ignore[arg-type]

    def entry(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        for name, _ in scope.get("headers", ()):
            if name in MARKS:
                marked: Awaitable[None] = told(scope, receive, send)
                return marked
        return app(scope, receive, send)

    return entry
