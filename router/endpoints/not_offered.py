"""Paths of sglang-router that this router does not have: each answers 501 with the reason."""

from router.endpoints.routes import Handler
from router.errors import NotOffered
from router.http.client_request import ClientRequest

_STORE = "nothing is stored between requests; there is no /v1/responses or /v1/conversations"
_TEXT = "the router passes text on as it is; give it to the SGLang servers"
_GENERATION = "prefill/decode servers run generation models; ask a server that runs without disaggregation"
_OWN_TOKENIZERS = "the router keeps no tokenizers; /v1/tokenize asks a server of the model"
_WASM = "the router runs no modules of others"
_MESH = "routers do not share state; each finds the workers' health by itself"

PATHS_NOT_OFFERED: dict[str, str] = {
    "POST /v1/embeddings": _GENERATION,
    "POST /v1/classify": _GENERATION,
    "POST /v1/responses": _STORE,
    "GET /v1/responses/{id}": _STORE,
    "DELETE /v1/responses/{id}": _STORE,
    "POST /v1/responses/{id}/cancel": _STORE,
    "GET /v1/responses/{id}/input_items": _STORE,
    "POST /v1/conversations": _STORE,
    "GET /v1/conversations/{id}": _STORE,
    "POST /v1/conversations/{id}": _STORE,
    "DELETE /v1/conversations/{id}": _STORE,
    "GET /v1/conversations/{id}/items": _STORE,
    "POST /v1/conversations/{id}/items": _STORE,
    "GET /engine_metrics": "let Prometheus scrape each worker's own /metrics, which names the worker",
    "POST /parse/function_call": _TEXT,
    "POST /parse/reasoning": _TEXT,
    "GET /wasm": _WASM,
    "POST /wasm": _WASM,
    "DELETE /wasm/{id}": _WASM,
    "GET /v1/tokenizers": _OWN_TOKENIZERS,
    "POST /v1/tokenizers": _OWN_TOKENIZERS,
    "GET /v1/tokenizers/{id}": _OWN_TOKENIZERS,
    "DELETE /v1/tokenizers/{id}": _OWN_TOKENIZERS,
    "GET /v1/tokenizers/{id}/status": _OWN_TOKENIZERS,
    "PUT /workers/{id}": "nothing of a worker can be changed; DELETE it and POST it again",
    "GET /ha/status": _MESH,
    "GET /ha/health": _MESH,
    "GET /ha/workers": _MESH,
    "GET /ha/workers/{id}": _MESH,
    "GET /ha/policies": _MESH,
    "GET /ha/policies/{id}": _MESH,
    "GET /ha/config": _MESH,
    "POST /ha/rate-limit": _MESH,
    "GET /ha/rate-limit": _MESH,
    "GET /ha/rate-limit/stats": _MESH,
    "POST /ha/shutdown": _MESH,
}


def not_offered(reason: str) -> Handler:
    """A handler that answers 501 with the reason."""

    async def refuse(request: ClientRequest, *_: str) -> None:
        raise NotOffered(f"{request.path} is not offered: {reason}.")

    return refuse
