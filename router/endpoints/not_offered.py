"""Paths that sglang-router has and this router has not: each answers 501 with the reason."""

from router.endpoints.routes import Handler
from router.errors import NotOffered, NoWorker
from router.http.client_request import ClientRequest

_NO_STORE = "the router stores nothing; send the earlier items in `input` of /v1/responses, or `previous_response_id`"
_STORED_BY_SERVERS = "responses are stored by the servers, and neither SGLang nor vLLM has this"
_NO_TOKENIZERS = "the router keeps no tokenizers; /v1/tokenize asks a server of the model"
_NO_MODULES = "the router runs no modules of others"
_NO_MESH = "routers do not share state; each finds the workers' health by itself"

PATHS_NOT_OFFERED: dict[str, str] = {
    "DELETE /v1/responses/{id}": _STORED_BY_SERVERS,
    "GET /v1/responses/{id}/input_items": _STORED_BY_SERVERS,
    "POST /v1/conversations": _NO_STORE,
    "GET /v1/conversations/{id}": _NO_STORE,
    "POST /v1/conversations/{id}": _NO_STORE,
    "DELETE /v1/conversations/{id}": _NO_STORE,
    "GET /v1/conversations/{id}/items": _NO_STORE,
    "POST /v1/conversations/{id}/items": _NO_STORE,
    "GET /wasm": _NO_MODULES,
    "POST /wasm": _NO_MODULES,
    "DELETE /wasm/{id}": _NO_MODULES,
    "POST /v1/tokenizers": _NO_TOKENIZERS,
    "DELETE /v1/tokenizers/{id}": _NO_TOKENIZERS,
    "GET /v1/tokenizers/{id}/status": _NO_TOKENIZERS,
    "GET /ha/health": _NO_MESH,
    "GET /ha/workers": _NO_MESH,
    "GET /ha/workers/{id}": _NO_MESH,
    "GET /ha/policies": _NO_MESH,
    "GET /ha/policies/{id}": _NO_MESH,
    "GET /ha/config": _NO_MESH,
    "POST /ha/rate-limit": _NO_MESH,
    "GET /ha/rate-limit": _NO_MESH,
    "GET /ha/rate-limit/stats": _NO_MESH,
    "POST /ha/shutdown": _NO_MESH,
}


def not_offered(reason: str) -> Handler:
    """A handler that answers 501 with the reason."""

    async def refuse(request: ClientRequest, *_: str) -> None:
        raise NotOffered(f"{request.path} is not offered: {reason}.")

    return refuse


async def no_mesh(request: ClientRequest) -> None:
    """`/ha/status` as of a sglang-router without a mesh."""
    raise NoWorker(f"the mesh is not enabled: {_NO_MESH}.")
