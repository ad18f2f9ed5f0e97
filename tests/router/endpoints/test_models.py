"""What is asked of models by name, and paths that are asked for without their body."""

from urllib.parse import quote

import openai
import pytest

from tests.router.moa.test_run_failures import OpenAIServer
from tests.router.support.aio import aio
from tests.router.support.fakes import Call, FakePair
from tests.router.support.serving import serving

NAMED_BY_ITS_HUB = "Org/Model-1"


@pytest.mark.case("8.model_retrieve", "12.retrieve")
@aio
async def test_public_case_one_model() -> None:
    """Of a pair, of a plain server, and a tree; by the openai client too, which quotes a slash or does not."""
    plain = OpenAIServer()
    async with plain.server, serving(FakePair(NAMED_BY_ITS_HUB), plain=(plain.server.url,)) as router:
        listed = (await router.http.get("/v1/models")).json()["data"]
        assert {model["id"] for model in listed} == {NAMED_BY_ITS_HUB, "other", "moa"}
        client = openai.AsyncOpenAI(base_url=f"{router.url}/v1", api_key="none", http_client=router.http)
        for model in listed:
            for name in (model["id"], quote(model["id"], safe="")):
                assert (await router.http.get(f"/v1/models/{name}")).json() == model
            assert (await client.models.retrieve(model["id"])).model_dump() == model
        for unknown in ("nobody", "Org", f"{NAMED_BY_ITS_HUB}/x", "moa/"):
            answer = await router.http.get(f"/v1/models/{unknown}")
            assert answer.status_code == 404
            assert f"the model {unknown!r} is not served here; served: " in answer.json()["error"]["message"]
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nobody")
        assert (await router.http.get("/v1/models/")).status_code == 404
        assert (await router.http.post("/v1/models/moa")).status_code == 405


@pytest.mark.case("8.head")
@aio
async def test_public_case_head() -> None:
    """Every path that GET has, with GET's status and headers."""

    async def answer(call: Call) -> None:
        await call.answer({"text": "one"})

    pair = FakePair()
    pair.prefill.generate = pair.decode.generate = answer
    async with serving(pair) as router:
        paths = [route.path for route in router.routes.all if route.method == "GET" and "{" not in route.path]
        assert {"/health", "/v1/models", "/metrics", "/liveness"} <= set(paths)
        for path in [*paths, "/v1/models/fake", "/workers/none", "/runs/none"]:
            got, asked = await router.http.get(path), await router.http.head(path)
            assert (asked.status_code, asked.content) == (got.status_code, b"")
            assert asked.headers["content-type"] == got.headers["content-type"]
            assert "content-length" in asked.headers
        refused = await router.http.head("/generate")
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
        assert (await router.http.delete("/health")).headers["allow"] == "GET, HEAD"
