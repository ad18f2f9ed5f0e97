"""`/engine_metrics`: what the workers measure, in one text (the workers are fakes)."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from router.endpoints import engine_metrics
from router.workers.joined_metrics import join_metrics
from tests.router.forwarding.test_plain_attempts import RARELY_PROBED
from tests.router.support.aio import aio, run, until
from tests.router.support.fakes import Call, FakeServer, whole
from tests.router.support.serving import serving

GAUGE = "# HELP sglang:num_running_reqs Running.\n# TYPE sglang:num_running_reqs gauge\n"
HISTOGRAM = (
    "# TYPE ttft histogram\n"
    'ttft_bucket{le="1.0",model_name="own \\"name\\""} 2\nttft_bucket{le="+Inf",model_name="own \\"name\\""} 3\n'
    'ttft_sum{model_name="own \\"name\\""} 4.5\nttft_count{model_name="own \\"name\\""} 3 1700000000000\n'
)


class Measured(FakeServer):
    """A server of the model `m` with metrics."""

    def __init__(self, metrics: Any) -> None:
        super().__init__(self._handle)
        self.metrics = metrics

    async def _handle(self, call: Call) -> None:
        if call.path == "/v1/models":
            await call.answer({"data": [{"id": "m"}]})
        elif call.path == "/metrics" and callable(self.metrics):
            await self.metrics(call)
        elif call.path == "/metrics" and isinstance(self.metrics, str):
            await call.send(whole(self.metrics.encode()))
        else:
            await call.send(whole(b"", 404))


@aio
async def test_every_sample_names_its_worker_and_each_type_stands_once() -> None:
    one, two, none = Measured(GAUGE + "sglang:num_running_reqs 1\n"), Measured(""), Measured(None)
    two.metrics = HISTOGRAM + GAUGE + 'sglang:num_running_reqs{tp="0"} 2.0\nalone{worker_addr="lie"} 5\n'
    async with one, two, none, serving(plain=(one.url, two.url, none.url), health=RARELY_PROBED) as router:
        answer = await router.http.get("/engine_metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }
        at_two = ("worker_addr", two.url)
        assert samples["sglang:num_running_reqs", ("model_name", "m"), ("worker_addr", one.url)] == 1
        assert samples["sglang:num_running_reqs", ("model_name", "m"), ("tp", "0"), at_two] == 2
        assert samples["ttft_bucket", ("le", "+Inf"), ("model_name", 'own "name"'), at_two] == 3
        assert samples["ttft_count", ("model_name", 'own "name"'), at_two] == 3
        assert samples["alone", ("model_name", "m"), at_two] == 5, "where it is, is not for it to say"
        lines = answer.text.splitlines()
        assert len(samples) == len([line for line in lines if not line.startswith("#")])
        assert answer.text.count("# TYPE sglang:num_running_reqs gauge") == 1
        runs = [line.startswith("sglang:num_running_reqs") for line in lines]
        assert runs[runs.index(True) : runs.index(True) + 2] == [True, True], "a family is in one place"
        assert f"# {none.url} is left out: {none.url} answered /metrics with 404." in lines


@aio
async def test_no_metrics_at_all_are_an_error() -> None:
    async with Measured(None) as server, serving(health=RARELY_PROBED) as router:
        answer = await router.http.get("/engine_metrics")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "no worker gives metrics: there are no workers." in answer.text
        await router.post("/workers", {"url": server.url})
        answer = await router.http.get("/engine_metrics")
        assert (answer.status_code, "answered /metrics with 404" in answer.text) == (503, True)


def test_bytes_and_time_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(call: Call) -> None:
        await call.gone()

    async def test() -> None:
        good, long, silent = Measured("a 1\n"), Measured("a 1\n" * 1000), Measured(hangs)
        async with good, long, silent, serving(plain=(good.url, long.url, silent.url), health=RARELY_PROBED) as router:
            text = (await router.http.get("/engine_metrics")).text
            assert f'a{{worker_addr="{good.url}",model_name="m"}} 1\n' in text
            assert f"# {long.url} is left out: its metrics are over 1000 bytes, or all over 1500." in text
            assert f"# {silent.url} is left out: {silent.url} did not answer /metrics within 1 s." in text

    monkeypatch.setattr(engine_metrics, "MAX_BYTES", 1000)
    monkeypatch.setattr(engine_metrics, "MAX_BYTES_OF_ALL", 1500)
    monkeypatch.setattr(engine_metrics, "SCRAPE_TIMEOUT", 1.0)
    run(test)


@pytest.mark.parametrize(
    "line", ["{", "a", "a{b} 1", 'a{b="c} 1', "1a 2", "a b c", "a" * 100_000, 'a{x="' * 10_000, "a{" + "b" * 100_000]
)
def test_nonsense_is_left_out(line: str) -> None:
    assert list(join_metrics([("http://h:1", None, f"{line}\nok 1\n")])) == ['ok{worker_addr="http://h:1"} 1']


@given(
    st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,3}", fullmatch=True), st.text(max_size=8), max_size=3),
    st.text(max_size=8),
)
def test_values_come_through(labels: dict[str, str], model: str) -> None:
    """Whatever stands in them, braces, quotes and line breaks too."""

    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    given_labels = ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items())
    text = "\n".join(join_metrics([("http://h:1", model, f"metric{{{given_labels}}} 7")]))
    (family,) = text_string_to_metric_families(f"{text}\n")
    assert family.samples[0].labels == {"model_name": model, **labels, "worker_addr": "http://h:1"}


@aio
async def test_one_scrape_serves_all_who_ask_meanwhile() -> None:
    """Also when who asked first leaves."""
    begin = asyncio.Event()

    async def measured(call: Call) -> None:
        if await call.waits_for(begin):
            await call.send(whole(b"up 1\n"))

    async with Measured(measured) as server, serving(plain=(server.url,), health=RARELY_PROBED) as router:
        first, *others = (asyncio.create_task(router.http.get("/engine_metrics")) for _ in range(20))
        await until(lambda: len(router.requests) == 20, "all wait")
        first.cancel()
        await until(lambda: len(router.requests) == 19, "the first has left")
        begin.set()
        assert {(await each).status_code for each in others} == {200}
        assert len(server.to("/metrics")) == 1
