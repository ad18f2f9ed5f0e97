"""OpenAI's responses: made by plain servers, and found again on the server that stored them (the servers are fakes)."""

from pathlib import Path
from typing import Any

import openai
import pytest

from router.errors import NotFound
from router.forwarding.response_ids import new_response_id, server_of_response
from router.workers.served_models import ServedModels
from router.workers.worker import Worker
from tests.router.endpoints.test_passed import Two
from tests.router.support.aio import aio, run
from tests.router.support.fakes import FakePair
from tests.router.support.keys import bearer, with_keys
from tests.router.support.serving import serving

PATH = "/v1/responses"
ASKED = {"model": "m", "input": "hi"}


@pytest.mark.parametrize("sglang", [True, False])
def test_the_server_that_has_a_response_is_asked_for_it(sglang: bool) -> None:
    """By the openai client; also to go on from it, and to cancel it."""

    async def test() -> None:
        async with Two(sglang=sglang) as two:
            http = two.router.http
            client = openai.AsyncOpenAI(base_url=f"{two.router.url}/v1", api_key="none", http_client=http)
            for _ in range(4):
                made = await client.responses.create(model="m", input="hi")
                (server,) = (each for each in two.servers if made.id in each.stored)
                assert (await client.responses.retrieve(made.id)).id == made.id
                assert server.calls[-1].method == "GET"
                assert (await client.responses.cancel(made.id)).status == "cancelled"
                assert server.calls[-1].path == f"{PATH}/{made.id}/cancel"
                next_one = await client.responses.create(model="m", input="more", previous_response_id=made.id)
                assert next_one.id in server.stored
                assert server.calls[-1].json["previous_response_id"] == made.id
            assert all(server.stored for server in two.servers), "both made some"

    run(test)


@aio
async def test_the_query_is_passed_on() -> None:
    async with Two() as two:
        made = (await two.router.post(PATH, ASKED)).json()["id"]
        asked = f"{PATH}/{made}?stream=true&starting_after=3"
        assert (await two.router.http.get(asked)).status_code == 200
        assert any(call.path == asked for server in two.servers for call in server.calls)
        too_long = await two.router.http.get(f"{PATH}/{made}?x={'y' * 1000}")
        assert (too_long.status_code, "printable ASCII" in too_long.text) == (400, True)


@aio
async def test_another_clients_response_is_not_there(tmp_path: Path) -> None:
    """Nor can a client change the id to get it."""
    async with Two(server=with_keys(tmp_path, {"a": ["data"], "b": ["data"]})) as two:
        http = two.router.http
        made = (await http.post(PATH, json=ASKED, headers=bearer("a"))).json()["id"]
        own = (await http.post(PATH, json=ASKED, headers=bearer("b"))).json()["id"]
        assert (await http.get(f"{PATH}/{made}", headers=bearer("a"))).status_code == 200
        before = sum(len(server.calls) for server in two.servers)
        for answer in (
            await http.get(f"{PATH}/{made}", headers=bearer("b")),
            await http.post(f"{PATH}/{made}/cancel", headers=bearer("b")),
            await http.post(PATH, json={**ASKED, "previous_response_id": made}, headers=bearer("b")),
        ):
            assert answer.status_code == 404
            assert answer.json()["error"]["message"] == f"there is no response {made!r} here."
        assert sum(len(server.calls) for server in two.servers) == before
        forged = made[:17] + own[17:29] + made[29:]
        assert (await http.get(f"{PATH}/{forged}", headers=bearer("b"))).status_code == 404


@pytest.mark.parametrize("number", ["resp_", "resp_own", "x", "..%2F..%2Fserver_info", "resp_" + "0" * 56])
def test_ids_that_are_none(number: str) -> None:
    async def test() -> None:
        async with Two() as two:
            assert (await two.router.http.get(f"{PATH}/{number}")).status_code == 404
            assert (await two.router.http.post(f"{PATH}/{number}/cancel")).status_code == 404
            assert all(server.asked == [] for server in two.servers)

    run(test)


@aio
async def test_a_server_that_is_away_or_gone() -> None:
    async with Two() as two:
        made = (await two.router.post(PATH, ASKED)).json()["id"]
        workers = two.router.registry.workers
        server = server_of_response(made, "", workers)
        server.health.away = True
        answer = await two.router.http.get(f"{PATH}/{made}")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        workers.remove(server)
        assert (await two.router.http.get(f"{PATH}/{made}")).status_code == 404


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"request_id": "resp_mine"}, "`request_id` is not taken here"),
        ({"conversation": "conv_1"}, "`conversation` is not taken here"),
        ({"text": {"format": {"type": "json_object"}}}, "`text.format` would be ignored by SGLang"),
        ({"previous_response_id": "resp_1"}, "there is no response 'resp_1' here"),
        ({"previous_response_id": 3}, "there is no response '3' here"),
    ],
    ids=str,
)
def test_fields_that_are_refused(field: dict[str, Any], words: str) -> None:
    async def test() -> None:
        async with Two() as two:
            answer = await two.router.post(PATH, {**ASKED, **field})
            assert answer.status_code in (400, 404)
            assert words in answer.text
            assert all(server.asked == [] for server in two.servers)

    run(test)


@aio
async def test_formats_are_for_servers_that_know_them() -> None:
    async with Two(sglang=False) as two:
        form = {"format": {"type": "json_object"}}
        assert (await two.router.post(PATH, {**ASKED, "text": form})).status_code == 200
    async with Two() as two:
        for text in (None, {"format": {"type": "text"}}, {"verbosity": "low"}):
            assert (await two.router.post(PATH, {**ASKED, "text": text})).status_code == 200


@aio
async def test_a_response_of_another_model() -> None:
    async with Two() as two, serving(FakePair()):
        made = (await two.router.post(PATH, ASKED)).json()["id"]
        for worker in two.router.registry.workers:
            worker.served = ServedModels(("m", "n"))
        other = {**ASKED, "model": "n", "previous_response_id": made}
        assert (await two.router.post(PATH, other)).status_code == 200
        server_of_response(made, "", two.router.registry.workers).served = ServedModels(("m",))
        answer = await two.router.post(PATH, other)
        assert (answer.status_code, "is not of the model 'n'" in answer.text) == (400, True)


def test_an_id_names_server_and_client() -> None:
    workers = [Worker(f"http://127.0.0.1:{port}", "plain") for port in (1, 2)]
    decode = Worker("http://127.0.0.1:1", "decode")
    for worker in workers:
        for owner in ("", "team-a"):
            made = new_response_id(worker, owner)
            assert server_of_response(made, owner, [decode, *workers]) is worker
            with pytest.raises(NotFound):
                server_of_response(made, owner + "x", workers)
    assert new_response_id(workers[0], "") != new_response_id(workers[0], "")
