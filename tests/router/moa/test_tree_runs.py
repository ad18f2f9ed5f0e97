"""Runs of a tree over fake pairs (fakes: only so can one agent of many fail at a chosen moment)."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest

from router.endpoints.trees import TreeEndpoint
from router.http.asgi import AsgiRequest, Message
from router.moa.agent_on_pair import PATIENT_SECONDS, STREAM_INTERVAL
from router.moa.run_context import RunContext
from router.moa.run_limits import RunLimits
from router.moa.settings import RunSettings
from router.moa.tree_files import load_trees
from router.observability.run_store import RunStore
from tests.router.server.test_app import data_lines
from tests.router.support.aio import aio, run, until, within
from tests.router.support.fakes import Call, FakePair, chunk, head, native_event, whole
from tests.router.support.serving import Serving, serving

CHAT: dict[str, Any] = {"model": "moa", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
PROMPT_TOKENS, OUTPUT_TOKENS = 10, 3


class Agents:
    """A fake pair whose decode server answers as an agent, and remembers who was asked when.

    An agent is known by its role, which is its system prompt. `answer` replaces what the agents of
    one role do.
    """

    def __init__(self, model: str = "fake") -> None:
        self.pair = FakePair(model)
        self.pair.decode.generate = self._generate
        self.pair.prefill.generate = self._prefill
        self.asked: list[str] = []
        self.running: set[str] = set()
        self.ran_with: dict[str, set[str]] = {}
        self.answer: dict[str, Callable[[Call], Awaitable[None]]] = {}

    async def _prefill(self, call: Call) -> None:
        if await call.waits_for(self.pair.room(call)):
            await call.answer({})

    async def _generate(self, call: Call) -> None:
        self.pair.room(call).set()
        name = self.name(call)
        self.asked.append(name)
        self.running.add(name)
        for other in self.running:
            self.ran_with.setdefault(name, set()).add(other)
            self.ran_with.setdefault(other, set()).add(name)
        try:
            await self.answer.get(name, self.good)(call)
        finally:
            self.running.discard(name)

    @staticmethod
    def prompt(call: Call) -> str:
        """The prompt as text; see `toy_ids`."""
        return "".join(map(chr, call.json["input_ids"]))

    @classmethod
    def name(cls, call: Call) -> str:
        """An agent's role; where the question is token ids, how many the prompt has."""
        found = re.match("<system>(.*?)</system>", cls.prompt(call), re.S)
        return found[1] if found else f"{len(call.json['input_ids'])} ids"

    async def good(self, call: Call) -> None:
        await asyncio.sleep(0.01)
        if "<system>" not in self.prompt(call):
            await self.ids(call)
            return
        said = f"says {self.name(call)}"
        usage = (PROMPT_TOKENS, OUTPUT_TOKENS)
        await call.stream(native_event(said), native_event(f"{said}, done", "stop", usage))
        await call.done()

    @staticmethod
    async def ids(call: Call) -> None:
        """As SGLang without a tokenizer streams: all ids so far in each event."""
        prompt = len(call.json["input_ids"])
        events = [
            native_event("", "length" if count == 3 else None, (prompt, count), [7, 8, 9][:count])
            for count in (1, 2, 3)
        ]
        await call.stream(*events)
        await call.done()

    def call_of(self, name: str) -> Call:
        """How an agent was asked."""
        return next(call for call in self.pair.decode.requests if self.name(call) == name)


def last_message(call: Call) -> str:
    """What the user said last."""
    return Agents.prompt(call).rsplit("<user>", 1)[1].removesuffix("</user>")


def small_tree(**final: Any) -> dict[str, Any]:
    """Two proposers in one cluster, one in another, an aggregator of each, a final agent; roles are names."""

    def agent(name: str, *reads: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "role": name, "reads": reads, "max_tokens": 5, **more}

    def cluster(name: str, *agents: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "agents": [*agents]}

    layers = [
        [cluster("c1", agent("p1"), agent("p2", sampling={"temperature": 0.5})), cluster("c2", agent("p3"))],
        [cluster("mid", agent("agg1", "c1"), agent("agg2", "c2"))],
        [cluster("end", agent("final", "mid", **final))],
    ]
    return {
        "models": {"fake": {"temperature": 0.1, "top_p": 0.9}},
        "trees": [{"name": "moa", "arm": "tree", "retries": 0, "layers": [{"clusters": layer} for layer in layers]}],
    }


@aio
async def test_readers_follow_what_they_read_and_answers_go_up(agents: Agents, trees: Path) -> None:
    async def beside_the_others(call: Call) -> None:
        await until(lambda: {"p1", "p2", "p3"} <= agents.ran_with.get("p1", set()), "agents run side by side")
        await agents.good(call)

    agents.answer = dict.fromkeys(("p1", "p2", "p3"), beside_the_others)
    async with serving(agents.pair, trees=trees) as router:
        answer = (await router.post("/v1/chat/completions", CHAT)).json()
        assert answer["choices"] == [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "says final, done"},
                "finish_reason": "stop",
            }
        ]
        assert (answer["object"], answer["model"]) == ("chat.completion", "moa")
        assert sorted(agents.asked[:3]) == ["p1", "p2", "p3"]
        assert sorted(agents.asked[3:5]) == ["agg1", "agg2"]
        assert agents.asked[5:] == ["final"]
        assert {"p1", "p2", "p3"} <= agents.ran_with["p1"], "agents that read nothing run side by side"
        assert not {"agg1", "final"} & agents.ran_with["p1"], "a reader waits for what it reads"
        prompts = {name: last_message(agents.call_of(name)) for name in agents.asked}
        assert prompts["p1"] == "Why is the sky blue?"
        assert [prompts["agg1"].count(f"says {name}, done") for name in ("p1", "p2", "p3")] == [1, 1, 0]
        assert [prompts["agg2"].count(f"says {name}, done") for name in ("p1", "p2", "p3")] == [0, 0, 1]
        assert [prompts["final"].count(f"says {name}, done") for name in ("agg1", "agg2", "p1")] == [1, 1, 0]
        assert all(prompt.count("Why is the sky blue?") == 1 for prompt in prompts.values())
        await router.settled()
        assert agents.pair.decode.aborted == agents.pair.prefill.aborted == []


@aio
async def test_usage_and_trace(agents: Agents, trees: Path) -> None:
    async with serving(agents.pair, trees=trees) as router:
        answer = (await router.post("/v1/chat/completions", CHAT)).json()
        assert answer["usage"] == {
            "prompt_tokens": 6 * PROMPT_TOKENS,
            "completion_tokens": 6 * OUTPUT_TOKENS,
            "total_tokens": 6 * (PROMPT_TOKENS + OUTPUT_TOKENS),
        }
        traces = answer["moa"]["agents"]
        assert [(t["agent"], t["cluster"], t["layer"]) for t in traces] == [
            ("p1", "c1", 0),
            ("p2", "c1", 0),
            ("p3", "c2", 0),
            ("agg1", "mid", 1),
            ("agg2", "mid", 1),
            ("final", "end", 2),
        ]
        for t in traces:
            assert (t["model"], t["prompt_tokens"], t["completion_tokens"]) == ("fake", PROMPT_TOKENS, OUTPUT_TOKENS)
            assert (t["finish_reason"], t["text"]) == ("stop", f"says {t['agent']}, done")
            assert 0 <= t["start"] <= t["first_token"] <= t["end"] <= answer["moa"]["seconds"]
        p1, p2, p3, agg1, agg2, final = traces
        assert max(p1["end"], p2["end"]) <= agg1["start"]
        assert p3["end"] <= agg2["start"]
        assert max(agg1["end"], agg2["end"]) <= final["start"]
        assert [(t["speculation"]["segments"], t["speculation"]["used"]) for t in traces] == [(0, 0)] * 6


@aio
async def test_sampling(agents: Agents, trees: Path) -> None:
    """A model's defaults under the agent's own, under what the client asks of the final agent."""
    async with serving(agents.pair, trees=trees) as router:
        asked = {"temperature": 0.7, "seed": 4, "max_completion_tokens": 99, "tools": [], "logit_bias": {}, "n": 1}
        await router.post("/v1/chat/completions", {**CHAT, **asked})
        p1, p2, final = (agents.call_of(name).json["sampling_params"] for name in ("p1", "p2", "final"))
        assert (p1["temperature"], p1["top_p"], p1["max_new_tokens"], p1.get("sampling_seed")) == (0.1, 0.9, 5, None)
        assert (p2["temperature"], p2["top_p"]) == (0.5, 0.9)
        assert (final["temperature"], final["top_p"], final["max_new_tokens"], final["sampling_seed"]) == (
            0.7,
            0.9,
            99,
            4,
        )
        assert final["logit_bias"] == {}
        assert not {"tools", "max_completion_tokens"} & final.keys()


@aio
async def test_conversations_and_system_prompts(agents: Agents, trees: Path) -> None:
    messages = [
        {"role": "system", "content": "Speak French."},
        {"role": "user", "content": "First."},
        {"role": "assistant", "content": "Oui."},
        {"role": "user", "content": [{"type": "text", "text": "Second,"}, {"type": "text", "text": "really."}]},
    ]
    async with serving(agents.pair, trees=trees) as router:
        await router.post("/v1/chat/completions", {**CHAT, "messages": messages})
        before = "<user>First.</user><assistant>Oui.</assistant>"
        proposer = agents.prompt(agents.call_of("Speak French.\n\np1"))
        assert proposer == f"<system>Speak French.\n\np1</system>{before}<user>Second,\nreally.</user>"
        aggregator = agents.call_of("Speak French.\n\nagg2")
        assert before in agents.prompt(aggregator)
        assert "Second,\nreally." in last_message(aggregator)
        assert "says Speak French.\n\np3, done" in last_message(aggregator)


@aio
async def test_streaming(agents: Agents, trees: Path) -> None:
    async with serving(agents.pair, trees=trees) as router:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        answer = await router.post("/v1/chat/completions", {**CHAT, **options})
        payloads = data_lines(answer.text)
        assert payloads.pop() == "[DONE]"
        *chunks, last, usage = map(orjson.loads, payloads)
        assert {each["id"] for each in (*chunks, last, usage)} == {last["moa"]["run"]}
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "says final"}
        assert "".join(each["choices"][0]["delta"]["content"] for each in chunks) == "says final, done"
        assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
        assert len(last["moa"]["agents"]) == 6
        assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 6 * OUTPUT_TOKENS)
        await router.settled()
        assert agents.pair.decode.aborted == []


@aio
async def test_pieces_are_streamed_as_the_final_agent_says_them(agents: Agents, trees: Path) -> None:
    step = asyncio.Event()

    async def slow(call: Call) -> None:
        await call.stream(native_event("first"))
        await step.wait()
        await call.event(native_event("first", "stop"))
        await call.done()

    agents.answer["final"] = slow
    async with (
        serving(agents.pair, trees=trees) as router,
        router.http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer,
    ):
        lines = answer.aiter_lines()
        assert "first" in await within(3.0, anext(lines))
        step.set()
        assert [line async for line in lines][-2] == "data: [DONE]"


@aio
async def test_the_stock_openai_client(agents: Agents, trees: Path) -> None:
    async with (
        serving(agents.pair, trees=trees) as router,
        openai.AsyncOpenAI(base_url=f"{router.url}/v1", api_key="none") as client,
    ):
        question: Any = CHAT["messages"]
        whole_answer = await client.chat.completions.create(model="moa", messages=question)
        assert whole_answer.choices[0].message.content == "says final, done"
        pieces = await client.chat.completions.create(model="moa", messages=question, stream=True)
        texts = [piece.choices[0].delta.content or "" async for piece in pieces]
        assert "".join(texts) == "says final, done"


@aio
@pytest.mark.parametrize("stream", [True, False])
async def test_answers_that_no_client_reads_as_they_come_have_few_events(
    agents: Agents, trees: Path, stream: bool
) -> None:
    async with serving(agents.pair, trees=trees) as router:
        await router.post("/v1/chat/completions", CHAT | {"stream": stream})
        sampling = {name: agents.call_of(name).json["sampling_params"] for name in ("p1", "p2", "agg1", "final")}
        assert {name: each.get("stream_interval") for name, each in sampling.items()} == {
            "p1": STREAM_INTERVAL,
            "p2": STREAM_INTERVAL,
            "agg1": STREAM_INTERVAL,
            "final": None if stream else STREAM_INTERVAL,
        }


@aio
async def test_agents_with_the_same_prompt_have_it_tokenized_once(agents: Agents, tmp_path: Path) -> None:
    """Those that read others' answers too, and those of later runs."""
    config = small_tree()
    for layer in config["trees"][0]["layers"]:
        for cluster in layer["clusters"]:
            for agent in cluster["agents"]:
                agent["role"] = agent["name"].rstrip("123")
                agent["reads"] = ["mid"] if agent["name"] == "final" else agent["reads"] and ["c1", "c2"]
    file = tmp_path / "trees.json"
    file.write_text(json.dumps(config))

    def asked() -> Counter[str]:
        servers = (agents.pair.prefill.server, agents.pair.decode.server)
        return Counter(call.path for each in servers for path in ("/tokenize", "/detokenize") for call in each.to(path))

    async with serving(agents.pair, trees=file) as router:
        first = (await router.post("/v1/chat/completions", CHAT)).json()
        of_one_run = asked()
        assert of_one_run == {"/tokenize": 1 + 2 + 2, "/detokenize": 1 + 1}
        second = (await router.post("/v1/chat/completions", CHAT)).json()
        assert asked() == of_one_run
        assert second["choices"] == first["choices"]
        await router.post("/v1/chat/completions", CHAT | {"messages": [{"role": "user", "content": "And now?"}]})
        assert asked() == {path: 2 * count for path, count in of_one_run.items()}


@aio
async def test_an_impatient_agent_gets_each_token(agents: Agents, tmp_path: Path) -> None:
    """Events are what its timeout listens for."""
    config = small_tree()
    config["trees"][0]["timeout"] = PATIENT_SECONDS - 1
    file = tmp_path / "trees.json"
    file.write_text(json.dumps(config))
    async with serving(agents.pair, trees=file) as router:
        await router.post("/v1/chat/completions", CHAT)
    assert all("stream_interval" not in call.json["sampling_params"] for call in agents.pair.decode.requests)


PROPOSAL = {"role": "system", "content": "p1"}


@pytest.mark.parametrize("tree_first", [True, False])
@aio
async def test_a_placeholder_in_a_clients_text_is_one_in_its_own_run_only(
    agents: Agents, trees: Path, tree_first: bool
) -> None:
    """A tree's agent and a run's have the same messages here, and not the same prompt."""
    messages = [{"role": "user", "content": "Repeat <|answer:a|>."}]
    reader = {"model": "fake", "run": "r", "agent": "b", "messages": [PROPOSAL, *messages]}
    async with serving(agents.pair, trees=trees) as router:

        async def ask_tree() -> None:
            answer = await router.post("/v1/chat/completions", {"model": "moa", "messages": messages})
            assert answer.status_code == 200
            prompts = [agents.prompt(call) for call in agents.pair.decode.requests]
            assert "<system>p1</system><user>Repeat <|answer:a|>.</user>" in prompts

        if tree_first:
            await ask_tree()
        await router.post("/v1/chat/completions", {"model": "fake", "run": "r", "agent": "a", "messages": [PROPOSAL]})
        assert (await router.post("/v1/chat/completions", reader)).status_code == 200
        assert "Repeat says p1, done." in agents.prompt(agents.pair.decode.requests[-1])
        if not tree_first:
            await ask_tree()


@aio
async def test_template_options_are_part_of_a_prompt(agents: Agents, trees: Path) -> None:
    async with serving(agents.pair, trees=trees) as router:
        for thinking in (True, False, True):
            options = {"chat_template_kwargs": {"enable_thinking": thinking}}
            assert (await router.post("/v1/chat/completions", CHAT | options)).status_code == 200
        servers = (agents.pair.prefill.server, agents.pair.decode.server)
        rendered = [call.json for each in servers for call in each.to("/tokenize") if "messages" in call.json]
        asked = Counter(each["chat_template_kwargs"]["enable_thinking"] for each in rendered)
        assert asked[True] == asked[False] > 0


@aio
async def test_token_ids(agents: Agents, trees: Path) -> None:
    """Without a tokenizer an aggregator reads the question's ids and then its upstreams' ids."""
    async with serving(agents.pair, trees=trees) as router:
        answer = (await router.post("/v1/chat/completions", {"model": "moa", "input_ids": [1, 2], "seed": 3})).json()
        assert [call.path for call in agents.pair.decode.requests] == ["/generate"] * 6
        ids = [call.json["input_ids"] for call in agents.pair.decode.requests]
        up = [7, 8, 9]
        assert ids[:3] == [[1, 2]] * 3
        assert sorted(ids[3:5]) == [[1, 2, *up], [1, 2, *up, *up]]
        assert ids[5] == [1, 2, *up, *up]
        final = agents.pair.decode.requests[5].json["sampling_params"]
        assert final.pop("stream_interval") == STREAM_INTERVAL
        assert final == {"temperature": 0.1, "top_p": 0.9, "max_new_tokens": 5, "sampling_seed": 3}
        assert answer["choices"][0]["message"] == {"role": "assistant", "content": "", "output_ids": up}
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] == 18
        assert answer["usage"]["prompt_tokens"] == sum(map(len, ids))


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"messages": None}, "`messages` must be a list of at least one message object"),
        ({"messages": []}, "`messages` must be a list of at least one message object"),
        ({"messages": ["x"]}, "`messages` must be a list of at least one message object"),
        ({"messages": {"role": "user"}}, "`messages` must be a list of at least one message object"),
        ({"input_ids": []}, "`input_ids` must be a list"),
        ({"input_ids": [1, "2"]}, "`input_ids` must be a list"),
        ({"input_ids": [True]}, "`input_ids` must be a list"),
        ({"input_ids": [-1]}, "`input_ids` must be a list"),
        ({"input_ids": "12"}, "`input_ids` must be a list"),
        ({"max_tokens": 0}, "`max_tokens` must be an integer from 1 up"),
        ({"max_tokens": "many"}, "`max_tokens` must be an integer from 1 up"),
        ({"max_completion_tokens": 1.5}, "`max_completion_tokens` must be an integer from 1 up"),
        ({"stream": True, "stream_options": [1]}, "`stream_options` must be an object"),
        ({"n": "2"}, "`n` must be an integer from 1 up"),
        ({"n": 17}, "17 answers are asked for; a tree gives up to 16 a request"),
        ({"moa": "splice"}, "`moa` must be an object with `arm`, `order`, `exit`, `seed`, `sampling` only"),
        ({"moa": {"speed": 1}}, "`moa` must be an object with `arm`, `order`, `exit`, `seed`, `sampling` only"),
        ({"moa": {"seed": -1}}, "`seed` must be an integer from 0 up"),
        ({"moa": {"exit": {"rule": "vote"}}}, "`moa.exit.rule` is wrong: expected 'both' or 'dmv' or 'q_draw'"),
        ({"moa": {"exit": {"m": 50_000_000}}}, "`moa.exit.m` is wrong: expected `int` <= 64"),
        ({"moa": {"exit": {"tau": 2}}}, "`moa.exit.tau` is wrong: expected `float` <= 1.0"),
        ({"tools": [{"type": "function"}]}, "`tools` cannot be used in a request to a tree of agents"),
        (
            {"response_format": {"type": "json_object"}},
            "`response_format` cannot be used in a request",
        ),
        ({"moa": {"arm": "slice"}}, "`moa.arm` must be one of dense, tree, splice, exit"),
        ({"moa": {"order": None}}, "`moa.order` must be one of completion, declared"),
    ],
)
def test_bad_requests_are_refused_before_anybody_is_asked(
    agents: Agents, trees: Path, extra: dict[str, Any], words: str
) -> None:
    async def test() -> None:
        async with serving(agents.pair, trees=trees) as router:
            answer = await router.post("/v1/chat/completions", {**CHAT, **extra})
            assert answer.status_code == 400
            assert words in answer.json()["error"]["message"]
            assert agents.asked == []

    run(test)


@aio
async def test_a_tree_whose_model_is_away(agents: Agents, tmp_path: Path) -> None:
    (tmp_path / "trees.json").write_text(json.dumps(small_tree(model="big")))
    async with serving(agents.pair, trees=tmp_path / "trees.json") as router:
        answer = await router.post("/v1/chat/completions", CHAT)
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == (
            "the tree 'moa' cannot run: the model 'big' has no healthy pair; try again later."
        )
        assert [model["id"] for model in (await router.http.get("/v1/models")).json()["data"]] == ["fake"]


@aio
async def test_agents_without_a_model_take_the_served_ones_in_turn() -> None:
    groups = [Agents(model) for model in ("a", "b", "c")]
    async with serving(*(group.pair for group in groups)) as router:
        answer = (await router.post("/v1/chat/completions", CHAT)).json()
        assert [agent["model"] for agent in answer["moa"]["agents"]] == ["a", "b", "c"] * 4 + ["a"]
        wholly = [
            sum(call.json["sampling_params"]["max_new_tokens"] > 1 for call in g.pair.decode.requests) for g in groups
        ]
        assert wholly == [5, 4, 4], "the others are segments"
        await router.settled()


async def hangs(call: Call) -> None:
    await call.gone()


async def streams_then_hangs(call: Call) -> None:
    await call.stream(native_event("partial"))
    await call.gone()


async def refuses(call: Call) -> None:
    await call.answer({"error": {"message": "the prompt is too long"}}, 400)


async def says_an_error(call: Call) -> None:
    await call.stream(native_event("partial"), {"error": {"message": "out of memory", "code": 500}})
    await call.done()


async def says_a_plain_error(call: Call) -> None:
    await call.stream({"error": "out of memory"})
    await call.done()


async def drops(call: Call) -> None:
    await call.stream(native_event("partial"))
    await asyncio.sleep(0.01)
    call.drop()


async def is_aborted(call: Call) -> None:
    await call.stream(native_event("partial"), native_event("partial", "abort"))
    await call.done()


async def stops_without_a_reason(call: Call) -> None:
    await call.stream(native_event("partial"))
    await call.done()


async def says_nothing(call: Call) -> None:
    await call.stream()
    await call.done()


async def answers_without_streaming(call: Call) -> None:
    await call.answer(native_event("x", "stop"))


async def says_nonsense(call: Call) -> None:
    await call.send(head(200, ("content-type", "text/event-stream"), ("transfer-encoding", "chunked")))
    await call.send(chunk(b"data: {nonsense\n\n") + chunk(b""))


async def says_odd_json(call: Call) -> None:
    await call.stream([1, 2])
    await call.done()


async def says_odd_figures(call: Call) -> None:
    await call.stream({"text": "x", "output_ids": [1], "meta_info": None})
    await call.done()


FAULTS = [
    (refuses, "agent {} failed with 400: the prompt is too long"),
    (says_an_error, "agent {} failed while it answered: out of memory"),
    (says_a_plain_error, "agent {} failed while it answered: out of memory"),
    (drops, "closed the connection before its answer was whole"),
    (is_aborted, "agent {} failed: its worker aborted it"),
    (stops_without_a_reason, "agent {} failed: its answer ended without a finish reason"),
    (says_nothing, "agent {} failed: its answer ended without a finish reason"),
    (answers_without_streaming, "agent {} failed: its answer ended without a finish reason"),
    (says_nonsense, "agent {} failed: its answer is not in SGLang's form"),
    (says_odd_json, "agent {} failed: its answer is not in SGLang's form"),
    (says_odd_figures, "agent {} failed: its answer is not in SGLang's form"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_an_agent_fails(
    agents: Agents, trees: Path, fault: Callable[[Call], Awaitable[None]], words: str, stream: bool
) -> None:
    """The only one of its cluster: the run fails with the cause; the others are aborted; nothing else is asked."""

    async def fails(call: Call) -> None:
        await until(lambda: {"p1", "p2"} <= agents.running, "its neighbours run")
        await fault(call)

    async def test() -> None:
        agents.answer = {"p1": streams_then_hangs, "p2": streams_then_hangs, "p3": fails}
        async with serving(agents.pair, trees=trees) as router:
            answer = await within(3.0, router.post("/v1/chat/completions", {**CHAT, "stream": stream}))
            assert answer.status_code == (400 if fault is refuses else 502)
            assert words.format("p3") in answer.json()["error"]["message"]
            assert sorted(agents.asked) == ["p1", "p2", "p3"]
            await router.freed()
            rids = {Agents.name(call): call.json["rid"] for call in agents.pair.decode.requests}
            for worker in (agents.pair.prefill, agents.pair.decode):
                assert {rids["p1"], rids["p2"]} <= set(worker.aborted)

    run(test)


@pytest.mark.parametrize(("fault", "words"), [f for f in FAULTS if f[0] in {says_an_error, drops, is_aborted}])
def test_the_final_agent_fails_in_the_middle_of_the_stream(
    agents: Agents, trees: Path, fault: Callable[[Call], Awaitable[None]], words: str
) -> None:
    """The status line is out: the stream ends with an error event and `[DONE]`, as a model's does."""

    async def test() -> None:
        agents.answer["final"] = fault
        async with serving(agents.pair, trees=trees) as router:
            answer = await router.post("/v1/chat/completions", {**CHAT, "stream": True})
            assert answer.status_code == 200
            first, error, done = data_lines(answer.text)
            assert orjson.loads(first)["choices"][0]["delta"]["content"] == "partial"
            assert words.format("final") in orjson.loads(error)["error"]["message"]
            assert done == "[DONE]"
            await router.freed()

    run(test)


async def leave(router: Serving, body: dict[str, Any], when: Callable[[], bool]) -> None:
    """Ask, and close the connection when `when` holds."""
    _, writer = await asyncio.open_connection("127.0.0.1", router.port)
    raw = orjson.dumps({**CHAT, **body})
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(raw), raw))
    await until(when, "the moment to leave")
    await asyncio.sleep(0.02)
    writer.transport.abort()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("layer", [["p1", "p2", "p3"], ["agg1", "agg2"], ["final"]])
def test_a_client_that_leaves_frees_everything(agents: Agents, trees: Path, layer: list[str], stream: bool) -> None:
    async def test() -> None:
        agents.answer = dict.fromkeys(layer, streams_then_hangs)
        async with serving(agents.pair, trees=trees) as router:
            await leave(router, {"stream": stream}, lambda: agents.running == set(layer))
            asked = len(agents.asked)
            for worker in (agents.pair.prefill, agents.pair.decode):
                await until(lambda worker=worker: len(worker.aborted) == len(layer), "both are told")  # type: ignore[misc]
            await router.freed()
            assert len(agents.asked) == asked, "the next layer was asked for nobody"
            rids = {call.json["rid"] for call in agents.pair.decode.requests if Agents.name(call) in layer}
            assert set(agents.pair.decode.aborted) == set(agents.pair.prefill.aborted) == rids

    run(test)


@aio
async def test_a_client_that_leaves_without_reading(agents: Agents, trees: Path) -> None:
    """The run is stuck in sending to the client, between two pieces of the final answer."""

    async def floods(call: Call) -> None:
        await call.stream()
        text = ""
        while True:
            text += "x" * 65536
            await call.event(native_event(text, ids=[1]))

    agents.answer["final"] = floods
    async with serving(agents.pair, trees=trees) as router:
        await leave(router, {"stream": True}, lambda: "final" in agents.running)
        await until(lambda: len(agents.pair.decode.aborted) == 1, "decode was told")
        await router.freed()


@aio
async def test_a_stream_that_breaks_between_two_pieces_is_freed_at_once(agents: Agents, trees: Path) -> None:
    """Not only when the garbage collector finds the run's generators, which the error's traceback keeps."""

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError("the client's socket broke")

    async def receive() -> Message:
        raise AssertionError("not read here")

    agents.answer["final"] = streams_then_hangs
    async with serving(agents.pair, trees=trees) as router:
        endpoint = TreeEndpoint(RunContext(router.dispatcher), load_trees(trees), RunLimits(RunSettings()), RunStore())
        scope = {"method": "POST", "path": "/v1/chat/completions", "headers": []}
        request = AsgiRequest(scope, receive, send, max_body=1)
        with pytest.raises(OSError, match="socket broke") as broken:
            await endpoint.answer(request, {**CHAT, "stream": True}, "chat")
        assert [worker.load.requests for worker in router.registry.workers] == [0, 0]
        await until(lambda: len(agents.pair.decode.aborted) == 1, "decode was told")
        assert broken.tb is not None


@aio
async def test_runs_side_by_side_do_not_mix(agents: Agents, trees: Path) -> None:
    async with serving(agents.pair, trees=trees) as router:
        questions = [f"Question {number}?" for number in range(8)]
        answers = await asyncio.gather(
            *(
                router.post("/v1/chat/completions", {"model": "moa", "messages": [{"role": "user", "content": q}]})
                for q in questions
            )
        )
        assert len({answer.json()["id"] for answer in answers}) == 8
        prompts = [last_message(call) for call in agents.pair.decode.requests]
        assert all(sum(question in prompt for prompt in prompts) == 6 for question in questions)
        assert all(len(answer.json()["moa"]["agents"]) == 6 for answer in answers)
        await router.settled()


@aio
async def test_a_prefill_without_an_answer_body_is_fine(agents: Agents, trees: Path) -> None:
    async def prefill(call: Call) -> None:
        await call.send(whole(b""))

    agents.pair.prefill.generate = prefill
    async with serving(agents.pair, trees=trees) as router:
        assert (await router.post("/v1/chat/completions", CHAT)).status_code == 200
        await router.settled()
