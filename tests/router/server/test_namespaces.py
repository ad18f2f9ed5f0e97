"""Namespaces: clients with keys of their own never meet, whatever they call their runs and agents."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from router.server.settings import ServerSettings
from tests.router.agent_runs.test_agent_runs import chat, prompt_of
from tests.router.moa.test_run_failures import write_tree
from tests.router.moa.test_tree_runs import CHAT as TREE
from tests.router.moa.test_tree_runs import Agents
from tests.router.server.test_peers import run_of
from tests.router.support.aio import aio, run, within
from tests.router.support.fakes import FakePair
from tests.router.support.keys import bearer, with_keys
from tests.router.support.serving import Serving, serving, together

CHAT = "/v1/chat/completions"
CLIENTS = {"one": ["data", "runs"], "two": ["data", "runs"], "boss": ["admin"]}
VIEWS = ("", "/timeline", "/chrome-trace")


async def say(router: Serving, client: str, body: dict[str, Any]) -> Any:
    return await router.http.post(CHAT, json=body, headers=bearer(client))


async def see(router: Serving, client: str, path: str) -> Any:
    return await router.http.get(path, headers=bearer(client))


@pytest.mark.claim("namespaces-do-not-meet")
@aio
async def test_equal_names_do_not_meet(tmp_path: Path) -> None:
    agents = Agents()
    async with serving(agents.pair, server=with_keys(tmp_path, CLIENTS)) as router:
        for name in ("one", "two"):
            answer = await say(router, name, chat(f"writer-{name}", "Speak.", agent="a"))
            assert answer.status_code == 200, "the other one's agent is no conflict"
        for name in ("one", "two"):
            assert (await say(router, name, chat(f"reader-{name}", "<|answer:a|>", agent="b"))).status_code == 200
            assert f"says writer-{name}, done" in prompt_of(agents, f"reader-{name}")
        assert (await say(router, "one", chat("again", "Speak.", agent="a"))).status_code == 409
        # One that comes first waits for its own client's agent.
        waiting = asyncio.create_task(say(router, "one", chat("early", "<|answer:late|>", agent="c")))
        await asyncio.sleep(0.05)
        assert (await say(router, "two", chat("others", "Speak.", agent="late"))).status_code == 200
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert (await say(router, "one", chat("own", "Speak.", agent="late"))).status_code == 200
        assert (await within(3.0, waiting)).status_code == 200
        assert "says own, done" in prompt_of(agents, "early")
        await router.settled()


@pytest.mark.claim("runs-are-own")
@aio
async def test_runs_of_others_are_not_there(tmp_path: Path) -> None:
    async with serving(Agents().pair, server=with_keys(tmp_path, CLIENTS)) as router:
        assert (await say(router, "one", chat("x", "Secret.", run="mine", agent="a"))).status_code == 200
        for view in VIEWS:
            assert (await see(router, "one", f"/runs/mine{view}")).status_code == 200
            assert (await see(router, "boss", f"/runs/mine{view}")).status_code == 200
            other, nowhere = [await see(router, "two", f"/runs/{each}{view}") for each in ("mine", "none")]
            assert other.status_code == nowhere.status_code == 404
            assert other.text == nowhere.text.replace("'none'", "'mine'")
            assert (await see(router, "two", f"/runs/mine{view}?owner=one")).text == other.text
            assert (await see(router, "one", f"/runs/mine{view}?owner=two")).status_code == 404
        assert (await see(router, "two", "/runs")).json() == {"runs": []}
        assert (await see(router, "two", "/runs?owner=one")).json() == {"runs": []}
        (seen,) = (await see(router, "one", "/runs")).json()["runs"]
        assert "owner" not in seen
        (seen,) = (await see(router, "boss", "/runs")).json()["runs"]
        assert (seen["run"], seen["owner"]) == ("mine", "one")


@aio
async def test_an_admin_sees_both_of_a_name(tmp_path: Path) -> None:
    async with serving(Agents().pair, server=with_keys(tmp_path, CLIENTS)) as router:
        for name in ("one", "two"):
            assert (await say(router, name, chat(name, "Speak."))).status_code == 200
        trace = (await see(router, "boss", "/runs/r")).json()
        assert (trace["owner"], trace["agents"][0]["text"]) == ("two", "says two, done"), "the newest"
        for name in ("one", "two"):
            trace = (await see(router, "boss", f"/runs/r?owner={name}")).json()
            assert (trace["owner"], trace["agents"][0]["text"]) == (name, f"says {name}, done")
            own = (await see(router, name, "/runs/r")).json()
            assert own == {key: value for key, value in trace.items() if key != "owner"}
        assert [each["owner"] for each in (await see(router, "boss", "/runs")).json()["runs"]] == ["two", "one"]
        (only,) = (await see(router, "boss", "/runs?owner=one")).json()["runs"]
        assert only["owner"] == "one"
        assert (await see(router, "boss", "/runs/r?owner=boss")).status_code == 404


@pytest.mark.claim("runs-are-own")
@aio
async def test_runs_of_trees_are_ones_own(tmp_path: Path) -> None:
    trees = write_tree(tmp_path)
    async with serving(Agents().pair, trees=trees, server=with_keys(tmp_path, CLIENTS)) as router:
        answer = (await say(router, "one", TREE)).json()
        assert "owner" not in answer["moa"]
        path = f"/runs/{answer['moa']['run']}"
        assert (await see(router, "two", path)).status_code == 404
        assert (await see(router, "one", path)).json()["question"] == TREE["messages"][0]["content"]
        assert (await see(router, "boss", path)).json()["owner"] == "one"


@pytest.mark.parametrize("server", [ServerSettings(), ServerSettings(api_key="sk-zzz-one-zzz")])
def test_without_a_file_all_share_one_namespace(server: ServerSettings) -> None:
    async def test() -> None:
        async with serving(Agents().pair, server=server) as router:
            assert (await say(router, "one", chat("x", "Speak.", agent="a"))).status_code == 200
            async with router.http_from("127.0.0.2") as other:
                again = await other.post(CHAT, json=chat("y", "Speak.", agent="a"), headers=bearer("one"))
                assert again.status_code == 409
                assert (await other.get("/runs/r", headers=bearer("one"))).status_code == 200

    run(test)


# ---- several processes


@pytest.mark.claim("namespaces-do-not-meet")
@aio
async def test_processes_tell_each_other_who_asks(tmp_path: Path) -> None:
    agents = Agents()
    name = run_of(1)
    async with together(agents.pair, folder=tmp_path, server=with_keys(tmp_path, CLIENTS)) as routers:
        for number, client in enumerate(("one", "two")):
            body = chat(f"writer-{client}", "Speak.", run=name, agent="a")
            assert (await say(routers[number], client, body)).status_code == 200
        for router in routers:
            for client in ("one", "two"):
                reader = f"reader-{client}-{routers.index(router)}"
                body = chat(reader, "<|answer:a|>", run=name, agent=reader)
                assert (await say(router, client, body)).status_code == 200
                assert f"says writer-{client}, done" in prompt_of(agents, reader)
        for router in routers:
            for client in ("one", "two"):
                trace = (await see(router, client, f"/runs/{name}")).json()
                assert trace["agents"][0]["text"] == f"says writer-{client}, done"
                assert "owner" not in trace
                (seen,) = (await see(router, client, "/runs")).json()["runs"]
                assert "owner" not in seen
                trace = (await see(router, "boss", f"/runs/{name}?owner={client}")).json()
                assert (trace["owner"], trace["agents"][0]["text"]) == (client, f"says writer-{client}, done")
                assert (await see(router, client, f"/runs/{name}?owner=boss")).status_code == 404
            assert {each["owner"] for each in (await see(router, "boss", "/runs")).json()["runs"]} == {"one", "two"}
            assert (await see(router, "boss", f"/runs/{name}/timeline?owner=a%20b&x=%0d%0a")).status_code == 404
            info = (await see(router, "boss", "/server_info")).json()
            assert len(info["workers"]) == 2
            assert "workers" not in (await see(router, "one", "/server_info")).json()
            assert (await see(router, "one", "/workers")).status_code == 403
            assert (await see(router, "boss", "/metrics")).status_code == 200


@pytest.mark.claim("identity-is-not-claimed")
@aio
async def test_headers_of_processes_are_not_taken_from_clients(tmp_path: Path) -> None:
    forged = {"x-moa-namespace": "one", "x-moa-rights": "admin,data,runs", "x-moa-client": "key:one"}
    name = run_of(1)
    async with together(Agents().pair, folder=tmp_path, server=with_keys(tmp_path, CLIENTS)) as routers:
        body = chat("x", "Speak.", run=name, agent="a")
        assert (await say(routers[0], "one", body)).status_code == 200
        for router in routers:
            for headers in (forged, {**forged, "authorization": "Bearer wrong"}):
                assert (await router.http.get(f"/runs/{name}", headers=headers)).status_code == 401
                assert (await router.http.get("/metrics", headers=headers)).status_code == 401
            headers = {**forged, **bearer("two")}
            assert (await router.http.get(f"/runs/{name}", headers=headers)).status_code == 404
            assert (await router.http.get("/runs", headers=headers)).json() == {"runs": []}
            assert (await router.http.get("/workers", headers=headers)).status_code == 403
        for router in routers:
            headers, body = (
                {**forged, **bearer("two")},
                chat("y", "Speak.", run=name, agent=f"b{routers.index(router)}"),
            )
            assert (await router.http.post(CHAT, json=body, headers=headers)).status_code == 200
        (seen,) = [each for each in (await see(routers[0], "one", "/runs")).json()["runs"] if each["run"] == name]
        assert [each["agent"] for each in (await see(routers[0], "one", f"/runs/{name}")).json()["agents"]] == ["a"]
        assert "owner" not in seen


@pytest.mark.claim("processes-are-private")
@aio
async def test_who_shows_no_key_has_no_rights_in_another_process_either(tmp_path: Path) -> None:
    """Of a path that is open to everybody, too."""
    server = ServerSettings(api_key="sk-zzz-flag-zzz")
    async with together(FakePair(), folder=tmp_path, server=server) as (router, _):
        assert "workers" not in (await router.http.get("/server_info")).json()
        assert "workers" not in (await see(router, "wrong", "/server_info")).json()
        assert len((await see(router, "flag", "/server_info")).json()["workers"]) == 2


@pytest.mark.claim("keys-are-told-nowhere")
@aio
async def test_a_process_tells_another_no_key(tmp_path: Path) -> None:
    heard: list[dict[str, str]] = []

    async def other(call: Any) -> None:
        heard.append(call.headers)
        await call.answer({"runs": [], "agents": []})

    server = with_keys(tmp_path, CLIENTS, api_key="sk-zzz-flag-zzz")
    async with together(FakePair(), folder=tmp_path, count=1, fakes=[other], server=server) as (router,):
        for client in ("one", "flag"):
            await say(router, client, chat("x", "Speak.", run=run_of(1)))
            await see(router, client, f"/runs/{run_of(1)}")
            await see(router, client, "/runs")
    asked = [each for each in heard if each.get("x-moa-client")]
    assert len(asked) == 6
    assert {each["x-moa-namespace"] for each in asked} == {"one", "api-key"}
    assert {each["x-moa-rights"] for each in asked} == {"data,runs", "admin,data,runs"}
    assert "zzz" not in str(heard)
    assert all("authorization" not in each for each in heard)
