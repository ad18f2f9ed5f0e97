"""Answers of agents on plain servers, in every form that servers give them (a fake: it streams the bytes of a test)."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from router.http import sse
from tests.router.support.aio import aio, run, within
from tests.router.support.fakes import Call, FakeServer, chat_event, chunk, head, whole
from tests.router.support.serving import Serving, serving

CHAT = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 2}


class Server:
    """A plain server. The agent `odd` gets the bytes of the test, others `fine`; a fake tells agents by their role."""

    def __init__(self, *pieces: bytes, whole_json: Any = None) -> None:
        self.pieces = pieces
        self.whole_json = whole_json
        self.ends = True
        self.server = FakeServer(self._handle)

    async def _handle(self, call: Call) -> None:
        if call.path == "/v1/models":
            await call.answer({"data": [{"id": "other"}]})
        elif call.path != CHAT:
            await call.send(whole(b"", 404))
        elif call.json["messages"][0]["content"] != "odd":
            await call.stream(chat_event("fine", "stop"))
            await call.done()
        elif self.whole_json is not None:
            await call.answer(self.whole_json)
        else:
            await call.stream()
            for piece in self.pieces:
                await call.send(chunk(piece))
            if not self.ends:
                await call.gone()
            await call.send(chunk(b""))

    def read_by(self, role: str) -> str:
        """What the agent of a role was asked at last."""
        calls = [call for call in self.server.to(CHAT) if call.json["messages"][0]["content"] == role]
        content = calls[-1].json["messages"][-1]["content"]
        assert isinstance(content, str)
        return content


def trees_of(folder: Path, *proposers: str) -> Path:
    """A tree of some proposers and an agent that reads them; roles are names."""
    agents = [{"name": name, "role": name, "max_tokens": 5} for name in proposers]
    final = {"name": "final", "role": "final", "reads": ["c1"], "max_tokens": 5}
    layers = [{"clusters": [{"name": "c1", "agents": agents}]}, {"clusters": [{"name": "end", "agents": [final]}]}]
    path = folder / "trees.json"
    path.write_bytes(orjson.dumps({"trees": [{"name": "moa", "arm": "tree", "retries": 0, "layers": layers}]}))
    return path


def lines(*events: Any, done: bool = True) -> tuple[bytes, ...]:
    """A stream of events, one a piece."""
    return (*(b"data: " + orjson.dumps(event) + b"\n\n" for event in events), *([DONE] if done else []))


def hello(*, usage: Any = USAGE, change: Callable[[dict[str, Any]], Any] = lambda event: event) -> tuple[bytes, ...]:
    """`Hello world`, with one thing changed in each event."""
    events = [chat_event("Hello"), chat_event(" world"), chat_event("", "stop"), {"choices": [], "usage": usage}]
    return lines(*map(change, events))


def delta(finish: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    """An event with one choice."""
    return {"choices": [{"index": index, "delta": fields, "finish_reason": finish}]}


def both() -> tuple[bytes, ...]:
    """`Hello world` as choice 0 among another choice's words."""
    mixed = [delta(content="no", index=1), delta(content="Hello"), delta(content="nor this", index=1)]
    tail = [delta(content=" world"), delta("length", index=1), delta("stop")]
    return lines(*mixed, *tail, {"choices": [], "usage": USAGE})


async def ask_tree(router: Serving, **more: Any) -> Any:
    body = {"model": "moa", "messages": [{"role": "user", "content": "Why?"}], **more}
    return await within(5.0, router.post(CHAT, body))


async def check_tree_and_run(server: Server, trees: Path, counts: tuple[int, int]) -> None:
    """The odd agent says `Hello world` to the client and to readers: as an agent of a tree, and of a client's run."""
    async with server.server, serving(plain=(server.server.url,), trees=trees) as router:
        answer = await ask_tree(router)
        assert answer.status_code == 200, answer.text
        agent = answer.json()["moa"]["agents"][0]
        assert (agent["text"], agent["state"], agent["error"]) == ("Hello world", "done", None)
        assert (agent["prompt_tokens"], agent["completion_tokens"]) == counts
        assert agent["finish_reason"] == "stop"
        assert "Hello world" in server.read_by("final")
        for stream in (False, True):
            run_name = f"run-{stream}"
            messages = [{"role": "system", "content": "odd"}, {"role": "user", "content": "Say it."}]
            asked = {"model": "other", "run": run_name, "agent": "odd", "messages": messages, "stream": stream}
            told = await within(5.0, router.post(CHAT, asked))
            assert told.status_code == 200, told.text
            if not stream:
                assert told.json()["choices"][0]["message"]["content"] == "Hello world"
            messages = [{"role": "system", "content": "reader"}, {"role": "user", "content": "Read: <|answer:odd|>."}]
            await router.post(CHAT, {"model": "other", "run": run_name, "messages": messages})
            assert server.read_by("reader") == "Read: Hello world."
        await router.settled()


NO_COUNTS = (0, 0)
COUNTS = (7, 2)


@pytest.mark.case(
    "7.usage_no_counts",
    "7.usage_null_counts",
    "7.choices_null",
    "7.data_null",
    "7.error_null",
    "7.no_finish",
    "7.content_parts",
)
@pytest.mark.parametrize(
    ("pieces", "counts"),
    [
        pytest.param(hello(), COUNTS, id="usual"),
        pytest.param(hello(usage={}), NO_COUNTS, id="usage without counts"),
        pytest.param(hello(usage=None), NO_COUNTS, id="usage null"),
        pytest.param(hello(usage=dict.fromkeys(USAGE)), NO_COUNTS, id="counts null"),
        pytest.param(hello(usage={**USAGE, "prompt_tokens_details": None}), COUNTS, id="details null"),
        pytest.param((*hello()[:3], *lines({"choices": None, "usage": USAGE})), COUNTS, id="choices null"),
        pytest.param((*hello()[:3], *lines({"usage": USAGE})), COUNTS, id="no choices"),
        pytest.param((hello()[0], b"data: null\n\n", *hello()[1:]), COUNTS, id="data null"),
        pytest.param(hello(change=lambda event: {**event, "error": None}), COUNTS, id="error null"),
        pytest.param((*hello()[:2], *lines(chat_event("", None), {"usage": USAGE})), COUNTS, id="no finish reason"),
        pytest.param(
            lines(
                delta(content=[{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]),
                delta("stop", content=[{"type": "text", "text": " world"}]),
                {"usage": USAGE},
            ),
            COUNTS,
            id="parts",
        ),
        pytest.param(
            lines(
                delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]),
                delta(content=[{"type": "reasoning", "text": "Hm."}, {"type": "thinking", "thinking": None}]),
                delta("stop", content="Hello world"),
                {"usage": USAGE},
            ),
            COUNTS,
            id="thinking parts",
        ),
        pytest.param(
            lines(delta(reasoning_content="Hm."), delta("stop", content="Hello world"), {"usage": USAGE}),
            COUNTS,
            id="reasoning first",
        ),
        pytest.param(
            lines(delta(content=None), delta(content="Hello world"), {"choices": [{"delta": None}]}, {"usage": USAGE}),
            COUNTS,
            id="deltas null",
        ),
        pytest.param(both(), COUNTS, id="two choices mixed"),
        pytest.param((*hello(), *lines(delta(content=" more"), delta("length"))), COUNTS, id="events after [DONE]"),
        pytest.param((*hello()[:-1], b"data: [DONE]"), COUNTS, id="no line end behind [DONE]"),
        pytest.param(tuple(piece.replace(b"\n", b"\r\n") for piece in hello()), COUNTS, id="CRLF"),
        pytest.param(tuple(piece.replace(b"\n", b"\r") for piece in hello()), COUNTS, id="CR"),
        pytest.param((b"\xef\xbb\xbf" + b"".join(hello()).replace(b"\n\n", b"\n"),), COUNTS, id="no empty lines"),
        pytest.param(
            tuple(piece.replace(b'"choices":', b'\ndata: "choices":\ndata: ') for piece in hello()),
            COUNTS,
            id="events of several lines",
        ),
    ],
)
def test_public_case_a_stream_in_another_form(
    pieces: tuple[bytes, ...], counts: tuple[int, int], tmp_path: Path
) -> None:
    run(lambda: check_tree_and_run(Server(*pieces), trees_of(tmp_path, "odd"), counts))


@pytest.mark.case("7.nonstream_json")
@pytest.mark.parametrize("content", ["Hello world", [{"type": "text", "text": "Hello world"}]])
@pytest.mark.parametrize("usage", [USAGE, None])
def test_public_case_one_json_instead_of_a_stream(content: Any, usage: Any, tmp_path: Path) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    server = Server(whole_json={"choices": [choice], "usage": usage})
    run(lambda: check_tree_and_run(server, trees_of(tmp_path, "odd"), COUNTS if usage else NO_COUNTS))


TOOL_CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.case("7.reasoning_only_answer", "7.tool_calls")
@pytest.mark.parametrize(
    ("events", "words", "reasoning"),
    [
        pytest.param(
            [delta(reasoning_content="Let me"), delta("length", reasoning_content=" think")],
            "has reasoning only, and no text (finish reason length)",
            "Let me think",
            id="reasoning",
        ),
        pytest.param(
            [delta(reasoning="Hm.", reasoning_content="Hm."), delta("stop")],
            "has reasoning only, and no text (finish reason stop)",
            "Hm.",
            id="reasoning in two fields",
        ),
        pytest.param(
            [delta(tool_calls=[TOOL_CALL]), delta("tool_calls")],
            "has tool calls only, and no text (finish reason tool_calls)",
            "",
            id="tool calls",
        ),
        pytest.param([delta("stop", refusal="No.")], "has a refusal only, and no text", "", id="refusal"),
        pytest.param([delta("stop", content=" \n")], "is empty (finish reason stop)", "", id="blank"),
        pytest.param([], "is empty (finish reason stop)", "", id="nothing"),
    ],
)
def test_public_case_an_answer_without_text_counts_as_failed(
    events: list[Any], words: str, reasoning: str, tmp_path: Path
) -> None:
    """Its cluster goes on without it, or its readers fail with the cause; none reads an empty text."""

    async def test() -> None:
        server = Server(*lines(*events))
        async with server.server:
            async with serving(plain=(server.server.url,), trees=trees_of(tmp_path, "odd", "p2")) as router:
                answer = await ask_tree(router)
                assert answer.status_code == 200, answer.text
                failed = answer.json()["moa"]["agents"][0]
                assert (failed["state"], failed["reasoning"]) == ("failed", reasoning)
                assert words in failed["error"]
                assert server.read_by("final").count("\n- ") == 1
                await router.settled()
            async with serving(plain=(server.server.url,), trees=trees_of(tmp_path, "odd")) as router:
                answer = await ask_tree(router)
                assert answer.status_code == 502
                assert f"agent odd failed: its answer {words}" in answer.json()["error"]["message"]
                messages = [{"role": "system", "content": "r"}, {"role": "user", "content": "Read: <|answer:odd|>."}]
                reader = asyncio.create_task(
                    router.post(CHAT, {"model": "other", "run": "r", "agent": "top", "messages": messages})
                )
                await within(3.0, _begun(router, "r"))
                said = [{"role": "system", "content": "odd"}, {"role": "user", "content": "Say it."}]
                told = await router.post(CHAT, {"model": "other", "run": "r", "agent": "odd", "messages": said})
                assert (told.status_code, words in told.text) == (502, True)
                read = await within(3.0, reader)
                assert (read.status_code, words in read.text) == (502, True)
                await router.settled()

    run(test)


async def _begun(router: Serving, name: str) -> None:
    """Return once an agent of a client's run has come."""
    while (await router.http.get(f"/runs/{name}")).status_code != 200:  # noqa: ASYNC110 - over HTTP
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (hello()[:2], "its answer ended without a finish reason"),
        (lines(done=False), "its answer ended without a finish reason"),
        (lines(delta(content="x"), {"error": {"message": "out of memory"}}), "failed while it answered: out of memory"),
        (lines({"object": "error", "message": "no memory", "code": 500}), "failed while it answered: no memory"),
        (lines(delta("error", content="x")), "its worker aborted it"),
        (lines(delta("abort", content="x")), "its worker aborted it"),
        (lines([1, 2]), "its answer is not in OpenAI's form"),
        (lines(delta(content=7)), "its answer is not in OpenAI's form"),
        (lines({"choices": ["x"]}), "its answer is not in OpenAI's form"),
        (lines(delta(content=[{"type": "image_url", "image_url": {}}])), "its answer is not in OpenAI's form"),
        ((b"data: {nonsense\n\n",), "its answer is not in OpenAI's form"),
        ((b'{"choices": [{"message"',), "its answer is not in OpenAI's form"),
        ((b'{"error": {"message": "busy"}}',), "failed while it answered: busy"),
    ],
)
def test_what_is_no_answer(pieces: tuple[bytes, ...], words: str, tmp_path: Path) -> None:
    async def test() -> None:
        server = Server(*pieces)
        async with server.server, serving(plain=(server.server.url,), trees=trees_of(tmp_path, "odd")) as router:
            answer = await ask_tree(router)
            assert answer.status_code == 502
            assert f"agent odd {words}" in answer.text or f"agent odd failed: {words}" in answer.text
            await router.settled()

    run(test)


@aio
async def test_a_stream_that_stays_open_behind_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is whole with `[DONE]`: it waits for nothing, and the connection is given up."""
    monkeypatch.setattr(sse, "END_TIMEOUT", 0.05)
    server = Server(*hello())
    server.ends = False
    async with server.server, serving(plain=(server.server.url,), trees=trees_of(tmp_path, "odd")) as router:
        answer = await ask_tree(router)
        assert answer.json()["moa"]["agents"][0]["text"] == "Hello world"
        await router.settled()


@aio
async def test_a_connection_lost_behind_the_end(tmp_path: Path) -> None:
    async def handler(call: Call) -> None:
        if call.path == CHAT and call.json["messages"][0]["content"] == "odd":
            await call.send(head(200, ("transfer-encoding", "chunked")) + chunk(b"".join(hello())))
            await asyncio.sleep(0.01)
            call.drop()
        else:
            await Server()._handle(call)

    async with FakeServer(handler) as server, serving(plain=(server.url,), trees=trees_of(tmp_path, "odd")) as router:
        answer = await ask_tree(router)
        assert answer.json()["moa"]["agents"][0]["text"] == "Hello world"
        await router.settled()
