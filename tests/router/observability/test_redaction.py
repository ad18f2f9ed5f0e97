"""`--redact-text`: what prompts and answers say is kept nowhere; counts, times and names stay."""

import asyncio
import gc
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from router.observability.logs import configure_logging
from router.observability.run_trace import REDACTED, AgentTrace, RunTrace
from router.observability.tracing import exporter as export
from router.observability.tracing import start_tracing
from router.server.connections import serve
from router.server.settings import ServerSettings
from tests.router.agent_runs.test_agent_runs import chat
from tests.router.moa.test_run_failures import FakeJudge, write_tree
from tests.router.moa.test_tree_runs import Agents, hangs, small_tree
from tests.router.observability.collector import Collector, collecting
from tests.router.support.aio import aio, run, until
from tests.router.support.fakes import Call, FakePair, native_event, whole
from tests.router.support.serving import Serving, serving

WORD = "Xylophon"  # in every prompt and answer here
REDACT = ServerSettings(redact_text=True)
TREE = {"model": "moa", "messages": [{"role": "user", "content": f"What is a {WORD}?"}]}
PATH = "/v1/chat/completions"


class Saying(Agents):
    """Agents whose answers have the word."""

    async def good(self, call: Call) -> None:
        said = f"A {WORD}, says {self.name(call)}. The answer is \\boxed{{{WORD}}}."
        await call.stream(native_event(said), native_event(said, "stop", (10, 3)))
        await call.done()


async def shown(router: Serving) -> str:
    """All that the router shows of all runs."""
    runs = [each["run"] for each in (await router.http.get("/runs")).json()["runs"]]
    paths = [f"/runs/{each}{view}" for each in runs for view in ("", "/timeline", "/chrome-trace")]
    texts = [(await router.http.get(path)).text for path in ("/runs", "/metrics", "/workers", *paths)]
    assert len(texts) > 3
    return "\n".join(texts)


def in_memory(run_id: str) -> str:
    """The traces that are kept of a run."""
    gc.collect()
    kept = [each for each in gc.get_objects() if type(each) is RunTrace and each.id == run_id]
    assert kept
    return repr(kept)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setattr(export, "FLUSH_TIMEOUT", 60.0)  # no span is lost on a slow machine
    with collecting() as collector:
        yield collector


@pytest.mark.claim("text-can-be-left-out")
@pytest.mark.parametrize("stream", [False, True])
def test_a_tree(stream: bool, tmp_path: Path, collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    """The client still gets everything, its trace too."""
    caplog.set_level(logging.DEBUG, "router")
    layers = small_tree()["trees"][0]["layers"]
    layers[0]["clusters"][0]["agents"].append({"name": "p4", "role": "p4", "reads": [], "max_tokens": 5})
    trees = write_tree(tmp_path, arm="exit", exit={"rule": "both"}, layers=layers)

    async def test() -> None:
        agents = Saying()
        agents.answer["p4"] = hangs
        settings: dict[str, Any] = {"trees": trees, "judge": FakeJudge(), "trace": collector.settings}
        async with serving(agents.pair, server=REDACT, **settings) as router:
            answer = await router.post(PATH, {**TREE, "stream": stream})
            assert answer.status_code == 200, answer.text
            assert answer.text.count(WORD) > 5
            assert WORD not in await shown(router)
            (run,) = (await router.http.get("/runs")).json()["runs"]
            trace = (await router.http.get(f"/runs/{run['run']}")).json()
            assert trace["usage"]["completion_tokens"] > 0
            assert {each["text"] for each in trace["agents"]} == {""}
            assert trace["question"] == ""
            decision = trace["decisions"][-1]
            assert decision["exit"]
            assert (set(decision["extracted"]), decision["majority"]) == ({None}, None)
            assert decision["answers"]
            await router.answered()
            assert WORD not in in_memory(run["run"])

    run(test)
    assert len(collector.spans) > 5
    assert WORD not in repr(collector.spans)
    assert WORD not in caplog.text


@aio
async def test_without_the_flag_it_is_there(tmp_path: Path) -> None:
    """What the other tests look for would be found."""
    async with serving(Saying().pair, trees=write_tree(tmp_path)) as router:
        assert (await router.post(PATH, TREE)).status_code == 200
        assert (await router.post(PATH, chat("x", f"Say {WORD}."))).status_code == 200
        assert (await shown(router)).count(WORD) > 10


@aio
async def test_a_run_under_way() -> None:
    """Its text is there, for its reader and its client, but not shown."""
    agents = Saying()

    async def begins(call: Call) -> None:
        await call.stream(native_event(f"A {WORD}"))
        await call.gone()

    agents.answer["hangs"] = begins
    async with serving(agents.pair, server=REDACT) as router:
        body = chat("hangs", f"Say {WORD}.", agent="a", stream=True)
        async with router.http.stream("POST", PATH, json=body) as answer:
            chunks = answer.aiter_text()
            told = ""
            while WORD not in told:
                told += await anext(chunks)
            (seen,) = (await router.http.get("/runs/r")).json()["agents"]
            assert (seen["state"], seen["text"]) == ("running", "")
            assert WORD not in await shown(router)
        await until(lambda: not router.dispatcher.registry.workers[1].load.requests, "it is over")
        assert WORD not in await shown(router)


@aio
async def test_agents_of_a_client(collector: Collector) -> None:
    """Answers are kept for readers, and shown nowhere."""
    agents = Saying()
    async with serving(agents.pair, server=REDACT, trace=collector.settings) as router:
        first = await router.post(PATH, chat("one", f"Say {WORD}.", agent="a"))
        assert WORD in first.text
        assert (await router.post(PATH, chat("two", "Read <|answer:a|>.", agent="b"))).status_code == 200
        assert WORD in Agents.prompt(agents.pair.decode.requests[-1])
        native = {"run": "r", "text": f"Say {WORD}.", "agent": "c"}
        assert (await router.post("/generate", native)).status_code == 200
        assert WORD not in await shown(router)
        seen = (await router.http.get("/runs/r")).json()["agents"]
        assert [(each["state"], each["text"], each["output_ids"]) for each in seen] == [("done", "", [])] * 3
        await router.answered()
        assert WORD not in in_memory("r")
    assert WORD not in repr(collector.spans)


@pytest.mark.claim("text-can-be-left-out")
@pytest.mark.parametrize("named", [False, True])
def test_errors_of_workers_that_quote_the_prompt(
    named: bool, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets them; what is kept has their kind."""
    caplog.set_level(logging.DEBUG, "router")

    async def quotes(call: Call) -> None:
        await call.send(whole(b'{"error": {"message": "I do not like %s"}}' % WORD.encode(), 400))

    async def test() -> None:
        pair = FakePair()
        pair.prefill.generate = pair.decode.generate = quotes
        async with serving(pair, server=REDACT, trace=collector.settings) as router:
            body = chat("x", f"Say {WORD}.") if named else {"messages": [{"role": "user", "content": WORD}]}
            answer = await router.post(PATH, body)
            assert answer.status_code == 400
            assert WORD in answer.text
            if named:
                trace = (await router.http.get("/runs/r")).json()
                assert (trace["state"], trace["error"]) == ("failed", REDACTED)
                assert trace["agents"][0]["error"] == REDACTED
            assert WORD not in await shown(router) if named else True

    run(test)
    assert [span for span in collector.spans if span.failed] or not named
    assert WORD not in repr(collector.spans)
    assert WORD not in caplog.text


def test_a_trace_that_is_redacted_keeps_counts_and_takes_less() -> None:
    agent = AgentTrace("a", "c", 0, "m", text=WORD * 100, reasoning=WORD, output_ids=[1, 2], prompt_tokens=7)
    trace = RunTrace("t", "exit", "declared", "r", question=WORD, agents=[agent])
    trace.decisions = [{"cluster": "c", "extracted": (WORD, None), "majority": WORD, "problem": WORD, "Q": 0.5}]
    trace.end("failed", f"no {WORD}")
    before, told = trace.size, trace.to_json(with_text=False)
    assert WORD in repr(trace)
    trace.redact()
    trace.redact()
    assert trace.to_json() == told
    assert WORD not in repr(trace) + repr(told)
    assert trace.size < before
    assert told["agents"][0]["prompt_tokens"] == 7
    assert told["decisions"] == [
        {"cluster": "c", "extracted": [None, None], "majority": None, "problem": REDACTED, "Q": 0.5}
    ]


@pytest.fixture
def root_logger() -> Iterator[None]:
    """Logging as it was, after a test that sets it up."""
    root, judge = logging.getLogger(), logging.getLogger("router.early_exit.judge_process")
    before = (root.handlers[:], root.level, judge.level)
    yield
    for handler in set(root.handlers) - set(before[0]):
        handler.close()
    root.handlers[:], root.level, judge.level = before


@pytest.mark.claim("text-can-be-left-out")
@pytest.mark.parametrize("redact", [False, True])
def test_the_log_has_errors_without_their_messages(redact: bool, tmp_path: Path, root_logger: None) -> None:
    configure_logging("info", str(tmp_path), redact_text=redact)
    logger = logging.getLogger("router.somewhere")
    try:
        try:
            raise KeyError(WORD)
        except KeyError as error:
            raise ValueError(f"bad {WORD}") from error
    except ValueError:
        logger.exception("unexpected error in %s", "/generate")
    logging.getLogger("router.early_exit.judge_process").info("judge %d: %s", 1, WORD)

    async def nobody_awaits_it() -> None:
        async def fails() -> None:
            raise ValueError(WORD)

        asyncio.create_task(fails())  # noqa: RUF006 - so that asyncio complains of its error
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()

    asyncio.run(nobody_awaits_it())
    text = (tmp_path / "router.log").read_text()
    assert "unexpected error in /generate" in text
    assert "ValueError: (redacted)" in text if redact else f"ValueError: bad {WORD}" in text
    assert "KeyError" in text
    assert "Task exception was never retrieved" in text
    assert "test_redaction.py" in text, "where it was"
    # The source lines of a traceback are the program's own, no client's.
    assert (WORD in text) is not redact


@pytest.mark.parametrize("redact", [False, True])
def test_every_line_can_be_json(redact: bool, tmp_path: Path, root_logger: None) -> None:
    configure_logging("info", str(tmp_path), redact_text=redact, as_json=True)
    try:
        raise ValueError(WORD)
    except ValueError:
        logging.getLogger("router.somewhere").exception("unexpected error in %s", "/generate")
    logging.getLogger("router.access").info('{"id":"a"}')
    first, second = (json.loads(line) for line in (tmp_path / "router.log").read_text().splitlines())
    assert (first["level"], first["logger"]) == ("ERROR", "router.somewhere")
    assert first["message"].startswith("unexpected error in /generate\n")
    assert (WORD in first["message"]) is not redact
    assert first["time"].endswith("+00:00")
    assert second == {"id": "a"}


def test_the_servers_own_errors_go_to_the_same_log(
    tmp_path: Path, root_logger: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """uvicorn logs what is raised after a response has begun, with its message."""

    class Failing:
        started = True

        def __init__(self, *_: Any) -> None: ...

        async def serve(self, sockets: Any) -> None:
            logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=ValueError(WORD))

    for name in ("_Server", "gc", "_return_large_blocks"):
        monkeypatch.setattr(serve, name, Failing if name == "_Server" else Mock())
    for name in ("uvicorn", "uvicorn.error"):  # as in a new process
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    configure_logging("info", str(tmp_path), redact_text=True)
    app = Mock()
    app.components.settings.server = REDACT
    assert serve.serve(app, []) == 0
    for text in ((tmp_path / "router.log").read_text(), capsys.readouterr().err):
        assert "Exception in ASGI application\nValueError: (redacted)" in text
        assert WORD not in text


def test_spans_of_decisions_have_no_problem(collector: Collector) -> None:
    """The sentence may quote an answer; that there was a decision stays."""
    for redact in (False, True):
        tracing = start_tracing(collector.settings, redact_text=redact)
        assert tracing is not None
        request = Mock(method="POST", path=PATH, scheme="http", id="x", headers=[], header=lambda _: None)
        fields = tracing.start_request(request, PATH, "chat").decision_fields()
        assert ("problem" in fields) is not redact
        assert "exit" in fields
        run(tracing.stop)


def test_tracing_takes_the_switch(collector: Collector) -> None:
    tracing = start_tracing(collector.settings, redact_text=True)
    assert tracing is not None

    async def stop() -> None:
        await tracing.stop()

    run(stop)
