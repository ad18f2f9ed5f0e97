"""Paths that sglang-router has and this router has not: each answers 501 with the reason."""

from router.endpoints.routes import Handler
from router.errors import NotOffered, NoWorker
from router.http.client_request import ClientRequest

_NO_STORE = "nothing is stored between requests; there is no /v1/responses or /v1/conversations"
_NO_PARSERS = "the router passes text on as it is; give it to the SGLang servers"
_NO_EMBEDDINGS = "prefill/decode servers run generation models; ask a server that runs without disaggregation"
_NO_TOKENIZERS = "the router keeps no tokenizers; /v1/tokenize asks a server of the model"
_NO_MODULES = "the router runs no modules of others"
_NO_MESH = "routers do not share state; each finds the workers' health by itself"

PATHS_NOT_OFFERED: dict[str, str] = {
    "POST /v1/embeddings": _NO_EMBEDDINGS,
    "POST /v1/classify": _NO_EMBEDDINGS,
    "POST /v1/responses": _NO_STORE,
    "GET /v1/responses/{id}": _NO_STORE,
    "DELETE /v1/responses/{id}": _NO_STORE,
    "POST /v1/responses/{id}/cancel": _NO_STORE,
    "GET /v1/responses/{id}/input_items": _NO_STORE,
    "POST /v1/conversations": _NO_STORE,
    "GET /v1/conversations/{id}": _NO_STORE,
    "POST /v1/conversations/{id}": _NO_STORE,
    "DELETE /v1/conversations/{id}": _NO_STORE,
    "GET /v1/conversations/{id}/items": _NO_STORE,
    "POST /v1/conversations/{id}/items": _NO_STORE,
    "POST /parse/function_call": _NO_PARSERS,
    "POST /parse/reasoning": _NO_PARSERS,
    "GET /wasm": _NO_MODULES,
    "POST /wasm": _NO_MODULES,
    "DELETE /wasm/{id}": _NO_MODULES,
    "GET /v1/tokenizers": _NO_TOKENIZERS,
    "POST /v1/tokenizers": _NO_TOKENIZERS,
    "GET /v1/tokenizers/{id}": _NO_TOKENIZERS,
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
