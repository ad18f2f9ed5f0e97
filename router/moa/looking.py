"""Runs to look at: as JSON, as a page, and as a Chrome trace."""

import orjson

from router.errors import NotFound
from router.http.asgi import JSON_HEADERS, Request
from router.moa.store import RunStore


class RunPages:
    """`/runs`, `/runs/{id}`, `/runs/{id}/timeline` and `/runs/{id}/chrome-trace`."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    async def listed(self, request: Request) -> None:
        """The runs that are kept."""
        await request.answer_json({"runs": self._store.to_json()})

    async def one(self, request: Request) -> None:
        """One run, in one of its forms; raises `NotFound`."""
        # Only who looks at a run pays for the templates.
        from router.timeline import chrome_trace, page
        from router.timeline.page import CSP

        name, _, form = request.path.removeprefix("/runs/").partition("/")
        trace = self._store.find(name).to_json()
        if form == "":
            await request.answer_json(trace)
        elif form == "timeline":
            headers = [
                (b"content-type", b"text/html; charset=utf-8"),
                (b"content-security-policy", CSP.encode()),
                (b"x-content-type-options", b"nosniff"),
            ]
            await request.answer(200, page(trace).encode(), headers)
        elif form == "chrome-trace":
            saved = (b"content-disposition", f'attachment; filename="{name}.trace.json"'.encode())
            await request.answer(200, orjson.dumps(chrome_trace(trace)), [*JSON_HEADERS, saved])
        else:
            raise NotFound(f"a run has no {form!r}; ask for /runs/{name}, and /timeline or /chrome-trace behind it.")
