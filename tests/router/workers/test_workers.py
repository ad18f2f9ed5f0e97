"""Workers, their probes, and who is chosen."""

import asyncio
import re
from collections import Counter
from typing import Any, Literal

import pytest

from router.errors import NotFound, NoWorker
from router.load_balancing import POLICIES, PowerOfTwo, Random, RoundRobin
from router.workers.health import HealthSettings
from router.workers.registry import Registry
from router.workers.served_models import ServedModels
from router.workers.worker import Worker
from router.workers.worker_entry import described
from tests.router.support.aio import aio, run, until, within
from tests.router.support.fakes import Call, FakePair, FakeServer, Handler, chunk, head, started, whole


def worker(role: Literal["prefill", "decode"], model: str | None, *, healthy: bool = True, load: int = 0) -> Worker:
    made = Worker(f"http://h:{id(role) % 1000 + 1}", role, models=() if model is None else (model,), healthy=healthy)
    made.load.requests = load
    return made


def test_models_need_both_roles() -> None:
    registry = Registry(
        [
            worker("prefill", "b"),
            worker("decode", "a"),
            worker("prefill", "a"),
            worker("decode", "b"),
            worker("prefill", "only-prefill"),
            worker("prefill", "sick"),
            worker("decode", "sick", healthy=False),
        ]
    )
    assert registry.models() == ["b", "a"]
    assert registry.default_model() is None
    with pytest.raises(NotFound, match=r"^the model 'c' is not served here; served: b, a\.$"):
        registry.usable("c", "prefill")
    with pytest.raises(NoWorker, match="no decode server of the model 'sick' is healthy"):
        registry.usable("sick", "decode")
    assert [w.model for w in registry.usable("a", "decode")] == ["a"]
    registry.workers.append(silent := worker("decode", None))
    why = f"the model 'c' is not known here: {silent.url} has not said yet what it serves; served: b, a."
    with pytest.raises(NoWorker, match=f"^{re.escape(why)}$"):
        registry.usable("c", "prefill")
    silent.health.drain()
    with pytest.raises(NotFound):
        registry.usable("c", "prefill")


def test_the_default_model_is_the_only_one() -> None:
    assert Registry([worker("prefill", "a"), worker("decode", "a", healthy=False)]).default_model() == "a"
    assert Registry([worker("prefill", None)]).default_model() is None


def test_one_model_alone_is_meant_by_every_name_unless_names_are_exact() -> None:
    workers = [worker("prefill", "a"), worker("decode", "a", healthy=False)]
    registry = Registry(workers, exact_models=False)
    assert [registry.meant_by(name) for name in ("a", "b")] == ["a", "a"]
    assert Registry(workers).meant_by("b") == "b"
    registry.workers.append(silent := worker("prefill", None))
    assert registry.meant_by("b") == "b", "it may yet say that it has it"
    silent.served = ServedModels(("c",))
    assert [registry.meant_by(name) for name in ("a", "b", "c")] == ["a", "b", "c"]


def test_round_robin_is_even_for_each_model() -> None:
    policy = RoundRobin()
    a = [worker("prefill", "a") for _ in range(3)]
    b = [worker("prefill", "b") for _ in range(2)]
    chosen = [policy.choose(group) for _ in range(6) for group in (a, b)]
    assert [a.index(w) for w in chosen[::2]] == [0, 1, 2, 0, 1, 2]
    assert [b.index(w) for w in chosen[1::2]] == [0, 1, 0, 1, 0, 1]
    assert policy.choose(a[:1]) is a[0]  # the others went away


def test_random_reaches_all() -> None:
    group = [worker("prefill", "a") for _ in range(3)]
    counts = Counter(id(Random().choose(group)) for _ in range(300))
    assert min(counts[id(w)] for w in group) > 50


def test_power_of_two_takes_the_less_loaded() -> None:
    group = [worker("prefill", "a", load=load) for load in (5, 1, 9)]
    chosen = {PowerOfTwo().choose(group).load.requests for _ in range(100)}
    assert chosen == {5, 1}
    assert PowerOfTwo().choose(group[2:]) is group[2]


def test_every_policy_chooses_from_one() -> None:
    only = worker("decode", "a")
    assert all(policy().choose([only]) is only for policy in POLICIES.values())


@aio
async def test_a_probe_learns_who_the_worker_is() -> None:
    pair = FakePair("some-model")
    async with started(pair):
        once = HealthSettings(failure_threshold=1)
        registry = Registry(
            [
                Worker(pair.prefill.url, "prefill", 5, health_settings=once),
                Worker(pair.decode.url, "decode", health_settings=once),
            ]
        )
        assert registry.models() == []
        await registry.probe()
        assert registry.models() == ["some-model"]
        told = described(registry.workers[0])
        assert (told["model"], told["healthy"], told["problem"], told["load"]) == ("some-model", True, None, 0)
        assert (told["bootstrap_port"], told["sglang"], told["overlay"]) == (5, "0.5.17", None)
        registry.close()
        await until(lambda: not pair.prefill.server.open, "the probe's connection is closed")
    await registry.probe()
    assert registry.models() == []
    assert "cannot be reached" in (registry.workers[0].health.problem or "")
    assert registry.workers[0].model == "some-model", "a worker that is away is still known"


def _json(raw: bytes, status: int = 200) -> Handler:
    async def handler(call: Call) -> None:
        await call.send(whole(raw, status))

    return handler


async def _hangs_in_the_body(call: Call) -> None:
    await call.send(head(200, ("transfer-encoding", "chunked")) + chunk(b"{"))
    await call.gone()


async def _hangs(call: Call) -> None:
    await call.gone()


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (_json(b"[]"), "does not say in /server_info which model it serves"),
        (_json(b"7"), "does not say in /server_info which model it serves"),
        (_json(b'{"served_model_name": null}'), "does not say in /server_info which model it serves"),
        (_json(b"{}"), "does not say in /server_info which model it serves"),
        (_json(b"<html>"), "something that is not JSON"),
        (_json(b"{}", 500), "answered /server_info with 500"),
        (_json(b'{"served_model_name": "m", "disaggregation_mode": "decode"}'), "given as prefill server but runs in"),
        (_json(b'{"served_model_name": "m", "disaggregation_mode": "null"}'), "given as prefill server but runs in"),
        (_hangs, r"did not answer /server_info within 0\.05 s"),
        (_hangs_in_the_body, r"did not answer /server_info within 0\.05 s"),
    ],
)
def test_probes_of_odd_servers(handler: Handler, words: str) -> None:
    """Whatever a server says, the probe ends, the worker is unhealthy with a reason, and nothing stays open."""
    health = HealthSettings(failure_threshold=1, timeout_secs=0.05 if "within" in words else 5.0)

    async def test() -> None:
        async with FakeServer(handler) as server:
            probed = Worker(server.url, "prefill", 1, healthy=True, health_settings=health)
            await within(3.0, probed.probe())
            assert not probed.health.healthy
            assert re.search(words, probed.health.problem or "")
            probed.origin.close()
            await until(lambda: not server.open, "nothing stays open")

    run(test)


@pytest.mark.parametrize("states", [None, [], ["odd"], {}, [{"sglang_ext": None}], 7])
def test_odd_internal_states_are_no_overlay(states: Any) -> None:
    async def test() -> None:
        pair = FakePair()
        pair.prefill.info["internal_states"] = states
        async with started(pair):
            probed = Worker(pair.prefill.url, "prefill", 1)
            await probed.probe()
            assert probed.health.healthy
            assert not probed.report.overlay
            probed.origin.close()

    run(test)


@aio
async def test_one_slow_worker_does_not_hide_the_others() -> None:
    pair = FakePair()
    async with started(pair), FakeServer(_hangs) as slow:
        registry = Registry([Worker(url, "prefill", 1) for url in (slow.url, pair.prefill.url)])
        task = asyncio.create_task(registry.probe())
        await until(lambda: registry.workers[1].health.healthy, "the quick one is known")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        registry.close()
        await until(lambda: not slow.open, "the probe's connection is closed")
