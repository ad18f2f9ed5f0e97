"""Answers put into prompts: composing, pacing and open prompts over a fake pair.

The fake pair counts segments and refuses on demand; what segments do to caches is tested in tests/e2e.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from router.errors import BadRequest, UpstreamFailed
from router.load_balancing import CacheAwareSettings
from router.observability.prometheus import metrics_text
from router.speculative_prefill import composition
from router.speculative_prefill.composition import (
    AnswerOrder,
    Truncate,
    compose_prompt,
    reencoded_text,
    same_tokenizer_ids,
)
from router.speculative_prefill.metrics import OpenPromptMetrics
from router.speculative_prefill.open_prompt import OpenPrompt
from router.speculative_prefill.pacing import (
    FORGET_SECONDS,
    MAX_TOKENS,
    MIN_TOKENS,
    TRIAL_TOKENS,
    SegmentPacer,
)
from router.speculative_prefill.template import PromptTemplate
from router.speculative_prefill.tokenizer import WorkerTokenizer
from router.speculative_prefill.upstream_answer import UpstreamAnswer
from router.workers.metrics import register_worker_metrics
from router.workers.registry import Registry
from router.workers.worker import Pair, Role, Worker
from router.workers.worker_report import WorkerReport
from sglang_ext.open_prompt.operation import InvalidOperation, Operation
from sglang_ext.open_prompt.pins import PinnedPrefixes
from sglang_ext.open_prompt.settings import Settings
from sglang_ext.open_prompt.table import OpenPromptTable
from tests.router.support.aio import aio, run, until
from tests.router.support.dispatching import dispatcher_for
from tests.router.support.fakes import Call, FakePair, started
from tests.router.support.pacers import FixedPacer
from tests.router.workers.histories import History, Step, histories, whole

# ---- templates


def test_a_template_of_ids() -> None:
    template = PromptTemplate.of_ids([1, 2, "<|answer:a|>", "<|answer:b.1|>", 3])
    assert template == PromptTemplate(((1, 2), (), (3,)), ("a", "b.1"))
    assert PromptTemplate.of_ids([]) == PromptTemplate(((),), ())


@pytest.mark.parametrize("wrong", [[1, "<|answer:|>"], [1, -1], [True], [1.0], ["x <|answer:a|>"], [[1]]])
def test_wrong_ids_are_named(wrong: list[Any]) -> None:
    with pytest.raises(BadRequest, match="`input_ids` holds"):
        PromptTemplate.of_ids(wrong)


# ---- composing


def play(template: PromptTemplate, steps: list[Step], order: AnswerOrder) -> tuple[list[int], list[list[int]]]:
    """The composed prompt, and the prompt as it stood after each step."""
    answers = {name: UpstreamAnswer(name) for name in template.slots}
    ids: list[int] = []
    stood = []

    async def collect() -> None:
        async for part in compose_prompt(template, answers, order, same_tokenizer_ids):
            if isinstance(part, Truncate):
                del ids[part.length :]
            else:
                ids.extend(part)

    async def work() -> None:
        task = asyncio.create_task(collect())
        for step in steps:
            for _ in range(8):  # the reader gets to see each step
                await asyncio.sleep(0)
            step.happen(answers[step.name])
            for _ in range(8):
                await asyncio.sleep(0)
            stood.append(ids.copy())
        await task

    run(work)
    return ids, stood


@settings(deadline=None)
@given(histories())
def test_declared_order_gives_the_prompt_that_blocking_gives(history: History) -> None:
    ids, _ = play(history.template, history.steps, "declared")
    assert ids == history.declared


@settings(deadline=None)
@given(histories())
def test_completion_order_fills_the_places_as_answers_end(history: History) -> None:
    ids, _ = play(history.template, history.steps, "completion")
    assert ids == whole(history.template, [history.final[name] for name in history.ended])


def test_completion_order_streams_only_the_last_answer_left() -> None:
    template = PromptTemplate(((0,), (), (9,)), ("a", "b"))
    steps = [
        Step("a", [1]),
        Step("b", [5]),
        Step("b", how="finish"),
        Step("a", [1, 2]),
        Step("a", [1, 2, 3]),
        Step("a", how="finish"),
    ]
    _, stood = play(template, steps, "completion")
    assert stood == [[0], [0], [0, 5, 1], [0, 5, 1, 2], [0, 5, 1, 2, 3], [0, 5, 1, 2, 3, 9]]


def test_declared_order_streams_the_answer_whose_turn_it_is() -> None:
    template = PromptTemplate(((0,), (8,), (9,)), ("a", "b"))
    steps = [Step("b", [5]), Step("a", [1]), Step("b", how="finish"), Step("a", how="finish")]
    _, stood = play(template, steps, "declared")
    assert stood == [[0], [0, 1], [0, 1], [0, 1, 8, 5, 9]]


@aio
async def test_an_answer_that_fails_fails_its_reader() -> None:
    answers = {"a": UpstreamAnswer("a")}
    answers["a"].update([1])
    answers["a"].fail(UpstreamFailed("agent a failed."))
    with pytest.raises(UpstreamFailed, match="agent a failed"):
        async for _ in compose_prompt(PromptTemplate(((), ()), ("a",)), answers, "declared", same_tokenizer_ids):
            pass


@aio
async def test_a_prompt_begins_when_an_answer_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before that, its segments would be prefilled beside the prompts of the agents that it waits for."""
    monkeypatch.setattr(composition, "HEAD_START_SECONDS", 60.0)
    answers = {name: UpstreamAnswer(name) for name in ("a", "b")}
    template = PromptTemplate(((1, 2), (3,), (4,)), ("a", "b"))
    parts = compose_prompt(template, answers, "completion", same_tokenizer_ids)
    first = asyncio.ensure_future(anext(parts))
    await asyncio.sleep(0.05)
    assert not first.done()
    answers["b"].update([9])
    assert await first == (1, 2)
    await parts.aclose()


@aio
async def test_a_prompt_does_not_wait_long_for_answers_that_come_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composition, "HEAD_START_SECONDS", 0.01)
    parts = compose_prompt(
        PromptTemplate(((1,), ()), ("a",)), {"a": UpstreamAnswer("a")}, "declared", same_tokenizer_ids
    )
    assert await anext(parts) == (1,)
    await parts.aclose()


@aio
async def test_reencoding_holds_the_last_word_back() -> None:
    asked: list[str] = []

    class Recording(WorkerTokenizer):
        def __init__(self) -> None: ...

        async def encode(self, text: str) -> list[int]:
            asked.append(text)
            return [len(text)]

    encode = reencoded_text(Recording())
    answer = UpstreamAnswer("a")
    for text in ("Blu", "Blue sk", "Blue sky\nover"):
        answer.update((), text)
        await encode(answer)
    answer.finish()
    await encode(answer)
    assert asked == ["", "Blue", "Blue sky", "Blue sky\nover"]


# ---- pacing


@given(st.floats(1e-4, 0.1), st.floats(1e-6, 1e-2))
def test_the_pacer_finds_where_a_segment_pays(fixed: float, per_token: float) -> None:
    pacer = SegmentPacer()
    assert pacer.min_tokens() == TRIAL_TOKENS[0]
    for tokens in (20, 60, 200, 90, 40):
        pacer.observe(tokens, fixed + per_token * tokens)
    wanted = min(max(fixed / per_token, MIN_TOKENS), MAX_TOKENS)
    assert pacer.min_tokens() == pytest.approx(wanted, rel=0.05, abs=1)


def test_the_pacer_where_others_decode_on_the_same_gpu() -> None:
    """Each loses half of the time that a segment takes; up to two of them, all lose less than one that waits."""
    pacer = SegmentPacer()
    for tokens in (64, 128):
        pacer.observe(tokens, 0.01 + 1e-4 * tokens)
    assert [pacer.min_tokens(beside) for beside in (0, 1, 2, 3, 10, 500)] == [100, 100, 100, 150, 500, 25_000]


def test_the_pacer_with_one_size_or_no_cost_by_size() -> None:
    pacer = SegmentPacer()
    for size in (*TRIAL_TOKENS, *TRIAL_TOKENS):
        assert pacer.min_tokens() == size
        pacer.observe(64, 0.02)
    pacer.observe(80, 0.01)
    assert pacer.min_tokens() in TRIAL_TOKENS, "one is as good as the other"
    pacer.observe(640, 0.01)
    assert pacer.min_tokens() == MAX_TOKENS


@pytest.mark.parametrize("pays_from", [100, 200, 400])
def test_the_pacer_learns_from_an_answer_that_is_only_streamed(pays_from: int) -> None:
    """Each segment then has just the size that was asked for."""
    pacer = SegmentPacer()
    sizes = []
    for _ in range(100):
        sizes.append(pacer.min_tokens())
        pacer.observe(sizes[-1], 1e-4 * (pays_from + sizes[-1]))
    assert sizes.count(pays_from) > 30
    assert {*sizes} <= {*TRIAL_TOKENS, pays_from}


def test_the_pacer_finds_out_that_it_was_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """No prompt may reach a size that is too large, and then nothing would be observed any more."""
    pacer = SegmentPacer()
    for tokens in (64, 640):
        pacer.observe(tokens, 0.02)
    assert pacer.min_tokens() == MAX_TOKENS
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + FORGET_SECONDS + 1)
    assert pacer.min_tokens() in TRIAL_TOKENS
    for tokens in (64, 128):
        pacer.observe(tokens, 0.01 + 1e-4 * tokens)
    assert pacer.min_tokens() == 100, "without what was observed before"


# ---- open prompts


class Segments:
    """A fake pair that remembers the prompts it was sent; `hold` keeps segments under way.

    With `overlay` its decode server keeps prompts as the real one does, with the overlay's own table of them.
    """

    def __init__(self, *, overlay: bool = False, ttl: float = 60.0) -> None:
        self.pair = FakePair()
        self.pair.decode.generate = self._generate
        self.hold: asyncio.Event | None = None
        self.status = 200
        self.segments: list[list[int]] = []
        self.finals: list[list[int]] = []
        self.sent: list[int] = []  # tokens that travelled, a request each
        open_prompts = {"ttl": ttl, "pinned": 7} if overlay else {"missing": "it is a fake"}
        self.report = WorkerReport(overlay={"open_prompts": open_prompts, "gpus": ["gpu-0"]})
        self.others = Registry([])
        self.registry = CollectorRegistry()
        cache: Any = None  # nothing is cached
        self.prompts = OpenPromptTable(10_000, PinnedPrefixes(cache, budget=0), Settings(ttl=ttl), time.monotonic)

    async def _generate(self, call: Call) -> None:
        self.pair.room(call).set()
        body = call.json
        sampling = body["sampling_params"]
        ids = body["input_ids"]
        self.sent.append(len(ids))
        try:
            operation = (
                Operation.from_json(sampling["custom_params"]["open_prompt"]) if "custom_params" in sampling else None
            )
            if operation is not None and operation.op == "close":
                self.prompts.close(operation.id)
                await call.answer({})
                return
            if operation is not None:
                ids = self.prompts.extend(operation, ids, body["rid"]).tolist()
        except InvalidOperation as error:
            await call.answer({"error": {"message": str(error)}}, 400)
            return
        if sampling["max_new_tokens"] > 1:
            self.finals.append(ids)
            await call.answer({"text": "", "meta_info": {}})
            return
        self.segments.append(ids)
        if self.hold is None or await call.waits_for(self.hold):
            await call.answer({"error": {"message": "no"}} if self.status != 200 else {}, self.status)

    @asynccontextmanager
    async def prompt(self, limit: int | None = None) -> AsyncIterator[OpenPrompt]:
        """An open prompt on the running pair; a segment is worth sending from four tokens on."""
        prefill, decode = (
            Worker(self.pair.prefill.url, "prefill", 1, models=("tiny",), healthy=True),
            Worker(self.pair.decode.url, "decode", models=("tiny",), healthy=True),
        )
        prefill.report = decode.report = self.report
        registry = Registry([prefill, decode, *self.others.workers])
        dispatcher = dispatcher_for(registry)
        try:
            register_worker_metrics(self.registry, registry)
            metrics = OpenPromptMetrics(self.registry)
            async with OpenPrompt(
                dispatcher, lambda: Pair(prefill, decode), FixedPacer(4), limit, metrics=metrics
            ) as prompt:
                yield prompt
        finally:
            await dispatcher.close()
            registry.close()


async def finish(prompt: OpenPrompt) -> None:
    """Send the final request and read its answer."""
    async with prompt.finish({"sampling_params": {"max_new_tokens": 8}}) as exchange:
        assert [chunk async for chunk in exchange.body()]


@pytest.mark.parametrize("why", ["unhealthy", "removed", "broken", "overloaded"])
def test_a_prompt_leaves_a_pair_that_does_not_do_any_more(why: str) -> None:
    """What was prefilled there is wasted, and counted so; the whole prompt goes to the other pair."""

    async def test() -> None:
        fakes = Segments(), Segments()
        async with started(*(fake.pair for fake in fakes)):
            pairs = []
            for fake in fakes:
                prefill = Worker(fake.pair.prefill.url, "prefill", 1, models=("tiny",), healthy=True)
                pairs.append(Pair(prefill, Worker(fake.pair.decode.url, "decode", models=("tiny",), healthy=True)))
            registry = Registry([worker for pair in pairs for worker in (pair.prefill, pair.decode)])
            balance = CacheAwareSettings(balance_abs_threshold=2, balance_rel_threshold=1.5)
            dispatcher = dispatcher_for(registry, balance)
            left = iter(pairs)
            async with OpenPrompt(dispatcher, lambda: next(left), FixedPacer(4)) as prompt:
                prompt.append([1, 2, 3, 4, 5])
                await until(lambda: prompt.speculation.segments == 1, "the segment is ready")
                first = pairs[0].decode
                if why == "overloaded":
                    first.load.requests += 2
                    assert dispatcher.selector.can_keep_pair(pairs[0]), "two more are within the threshold"
                    first.load.requests += 1
                elif why == "unhealthy":
                    first.health.healthy = False
                elif why == "removed":
                    first.health.drain()
                else:
                    for _ in range(10):
                        first.breaker.record_outcome(first.breaker.begin_request(), success=False)
                assert not dispatcher.selector.can_keep_pair(pairs[0])
                prompt.append([6])
                await finish(prompt)
            assert fakes[0].finals == []
            assert fakes[1].finals == [[1, 2, 3, 4, 5, 6]]
            told = prompt.speculation
            assert (told.moves, told.speculated, told.wasted, told.tail) == (1, 5, 5, 6)
            await dispatcher.close()
            registry.close()

    run(test)


@aio
async def test_segments_go_out_one_at_a_time_and_the_final_request_has_it_all() -> None:
    fake = Segments()
    async with started(fake.pair):
        async with fake.prompt() as prompt:
            fake.hold = asyncio.Event()
            prompt.append([1, 2, 3, 4])
            await until(lambda: len(fake.segments) == 1, "the first segment is under way")
            for token in range(5, 12):
                prompt.append([token])
            await asyncio.sleep(0.05)
            assert fake.segments == [[1, 2, 3, 4]]
            fake.hold.set()
            await until(lambda: prompt.speculation.segments == 2, "the rest follows as one segment")
            assert fake.segments[1] == list(range(1, 12))
            prompt.append([12, 13, 14])  # too little for a segment
            await finish(prompt)
        assert fake.finals == [list(range(1, 15))]
        assert prompt.speculation.to_json() == {
            "segments": 2,
            "failed": 0,
            "moves": 0,
            "speculated": 11,
            "wasted": 0,
            "tail": 3,
            "beside": 0,
            "mode": "fallback",
            "used": 11,
        }
        assert fake.sent == [4, 11, 14]


@pytest.mark.parametrize(
    ("gpu", "role", "held"), [("gpu-0", "decode", True), ("gpu-1", "decode", False), ("gpu-0", "prefill", False)]
)
def test_segments_are_larger_where_others_decode_on_the_prefill_servers_gpu(gpu: str, role: Role, held: bool) -> None:
    async def test() -> None:
        fake = Segments()
        other = Worker("http://127.0.0.1:9", role, models=("other",), healthy=True)
        other.report = WorkerReport(overlay={"gpus": [gpu]})
        other.load.requests = 4  # each loses half of a segment's time, so eight tokens are worth one, and not four
        fake.others.add(other)
        async with started(fake.pair):
            async with fake.prompt() as prompt:
                prompt.append([1, 2, 3, 4])
                await asyncio.sleep(0.05)
                assert bool(fake.segments) is not held
                prompt.append([5, 6, 7, 8])
                await until(lambda: prompt.speculation.speculated == 8, "eight tokens are worth a segment to both")
                await finish(prompt)
            assert fake.segments[0] == [1, 2, 3, 4, *([5, 6, 7, 8] if held else [])]
            assert prompt.speculation.beside == (4 if held else 0)

    run(test)


@aio
async def test_what_is_taken_back_counts_as_wasted() -> None:
    fake = Segments()
    async with started(fake.pair):
        async with fake.prompt() as prompt:
            prompt.append([1, 2, 3, 4, 5, 6])
            await until(lambda: prompt.speculation.segments == 1, "a segment")
            prompt.truncate(2)
            prompt.append([7, 8])
            await finish(prompt)
        assert fake.finals == [[1, 2, 7, 8]]
        speculation = prompt.speculation
        assert (speculation.speculated, speculation.wasted, speculation.used, speculation.tail) == (6, 4, 2, 2)


@aio
async def test_taken_back_while_its_segment_is_under_way() -> None:
    fake = Segments()
    async with started(fake.pair):
        async with fake.prompt() as prompt:
            fake.hold = asyncio.Event()
            prompt.append([1, 2, 3, 4])
            await until(lambda: len(fake.segments) == 1, "a segment is under way")
            prompt.truncate(1)
            prompt.append([5])
            fake.hold.set()
            await until(lambda: prompt.speculation.segments == 1, "it is done")
            assert prompt.speculation.wasted == 3
            await finish(prompt)
        assert fake.finals == [[1, 5]]
        assert prompt.speculation.tail == 1


@aio
async def test_taken_back_twice_while_its_segment_is_under_way() -> None:
    fake = Segments()
    async with started(fake.pair):
        async with fake.prompt() as prompt:
            prompt.append([1, 2, 3, 4, 5])
            await until(lambda: prompt.speculation.segments == 1, "a segment")
            fake.hold = asyncio.Event()
            prompt.append([6, 7, 8, 9])
            await until(lambda: len(fake.segments) == 2, "another is under way")
            prompt.truncate(4)
            prompt.truncate(3)
            prompt.append([4, 9])
            fake.hold.set()
            await until(lambda: prompt.speculation.segments == 2, "it is done")
            await finish(prompt)
        speculation = prompt.speculation
        # Of [1..9] the final [1, 2, 3, 4, 9] has four.
        assert (speculation.speculated, speculation.wasted, speculation.used, speculation.tail) == (9, 5, 4, 1)


@aio
async def test_a_failed_segment_ends_the_speculation_and_nothing_else() -> None:
    fake = Segments()
    async with started(fake.pair):
        async with fake.prompt() as prompt:
            fake.status = 500
            prompt.append([1, 2, 3, 4])
            await until(lambda: prompt.speculation.failed == 1, "the segment failed")
            prompt.append([5, 6, 7, 8])
            await finish(prompt)
        assert len(fake.segments) == 1
        assert fake.finals == [[1, 2, 3, 4, 5, 6, 7, 8]]
        assert prompt.speculation.tail == 8


@aio
async def test_leaving_aborts_the_segment_on_both_servers() -> None:
    fake = Segments()
    async with started(fake.pair):
        async with fake.prompt() as prompt:
            fake.hold = asyncio.Event()
            prompt.append([1, 2, 3, 4])
            await until(lambda: len(fake.segments) == 1, "a segment is under way")
        await until(lambda: len(fake.pair.prefill.aborted) == len(fake.pair.decode.aborted) == 1, "both aborted")
        assert prompt.speculation.used == 0


@aio
async def test_too_long_a_prompt_is_refused_and_stays_usable() -> None:
    fake = Segments()
    async with started(fake.pair):
        async with fake.prompt(limit=8) as prompt:
            prompt.append([1, 2, 3, 4])
            with pytest.raises(BadRequest, match="would have 8 tokens, but the model takes 8"):
                prompt.append([5, 6, 7, 8])
            prompt.append([])
            prompt.append([5, 6])
            await finish(prompt)
        assert fake.finals == [[1, 2, 3, 4, 5, 6]]


@aio
async def test_an_empty_prompt_is_refused() -> None:
    fake = Segments()
    async with started(fake.pair), fake.prompt() as prompt:
        with pytest.raises(BadRequest, match="the prompt is empty"):
            await finish(prompt)


# ---- open prompts on servers with the overlay


@aio
async def test_with_the_overlay_only_new_tokens_travel() -> None:
    fake = Segments(overlay=True)
    async with started(fake.pair):
        async with fake.prompt() as prompt:
            prompt.append([1, 2, 3, 4, 5])
            await until(lambda: prompt.speculation.segments == 1, "a segment")
            prompt.append([6, 7, 8, 9])
            await until(lambda: prompt.speculation.segments == 2, "another")
            prompt.append([10])
            await finish(prompt)
        assert fake.segments == [[1, 2, 3, 4, 5], list(range(1, 10))]
        assert fake.finals == [list(range(1, 11))]
        assert fake.sent == [5, 4, 1]
        assert prompt.speculation.mode == "overlay"
        assert prompt.speculation.tail == 1


@aio
async def test_without_a_segment_the_final_request_is_an_ordinary_one() -> None:
    fake = Segments(overlay=True)
    async with started(fake.pair):
        async with fake.prompt() as prompt:
            prompt.append([1, 2, 3])
            await finish(prompt)
        assert fake.finals == [[1, 2, 3]]
        assert not fake.prompts.open


@aio
async def test_the_overlay_takes_tokens_back() -> None:
    fake = Segments(overlay=True)
    async with started(fake.pair):
        async with fake.prompt() as prompt:
            prompt.append([1, 2, 3, 4, 5])
            await until(lambda: prompt.speculation.segments == 1, "a segment")
            prompt.truncate(2)
            prompt.append([6, 7, 8, 9])
            await until(lambda: prompt.speculation.segments == 2, "another")
            await finish(prompt)
        assert fake.finals == [[1, 2, 6, 7, 8, 9]]
        # The final request has nothing new, but no request may be empty.
        assert fake.sent == [5, 4, 1]
        assert fake.prompts.counters.taken_back == 4


@aio
async def test_a_server_that_lost_the_prompt_gets_it_again() -> None:
    fake = Segments(overlay=True)
    async with started(fake.pair):
        async with fake.prompt() as prompt:
            prompt.append([1, 2, 3, 4, 5])
            await until(lambda: prompt.speculation.segments == 1, "a segment")
            fake.prompts.open.clear()
            prompt.append([6, 7, 8, 9])
            await until(lambda: prompt.speculation.segments == 2, "the whole prompt again")
            await finish(prompt)
        assert prompt.speculation.failed == 1
        assert fake.segments[-1] == list(range(1, 10))
        assert fake.finals == [list(range(1, 10))]


@aio
async def test_a_prompt_the_servers_may_have_forgotten_is_sent_whole() -> None:
    fake = Segments(overlay=True, ttl=0.1)
    async with started(fake.pair):
        async with fake.prompt() as prompt:
            prompt.append([1, 2, 3, 4, 5])
            await until(lambda: prompt.speculation.segments == 1, "a segment")
            await asyncio.sleep(0.2)
            fake.prompts.open.clear()
            prompt.append([6])
            await finish(prompt)
        assert fake.finals == [[1, 2, 3, 4, 5, 6]]


@aio
async def test_a_prompt_forgotten_while_its_segment_waited_is_sent_whole() -> None:
    """A server that has no room answers a segment late, when the prompt's time to live may be over."""
    fake = Segments(overlay=True, ttl=0.1)
    async with started(fake.pair):
        async with fake.prompt() as prompt:
            fake.hold = asyncio.Event()
            prompt.append([1, 2, 3, 4, 5])
            await until(lambda: len(fake.segments) == 1, "a segment is on its way")
            await asyncio.sleep(0.2)
            fake.prompts.open.clear()
            fake.hold.set()
            await until(lambda: prompt.speculation.segments == 1, "it is answered")
            prompt.append([6])
            await finish(prompt)
        assert fake.finals == [[1, 2, 3, 4, 5, 6]]


@aio
async def test_metrics_of_open_prompts() -> None:
    fake = Segments(overlay=True)
    async with started(fake.pair):
        async with fake.prompt() as prompt:
            prompt.append([1, 2, 3, 4, 5])
            await until(lambda: prompt.speculation.segments == 1, "a segment")
            prompt.truncate(4)
            prompt.append([6])
            await finish(prompt)
        told = metrics_text(fake.registry).decode()
    for line in (
        'moa_segments_total{mode="overlay",model="tiny"} 1.0',
        'moa_speculated_tokens_total{mode="overlay",model="tiny",outcome="used"} 4.0',
        'moa_speculated_tokens_total{mode="overlay",model="tiny",outcome="wasted"} 1.0',
        'moa_critical_tail_tokens_sum{mode="overlay",model="tiny"} 1.0',
        'moa_dependent_ttft_seconds_count{mode="overlay",model="tiny"} 1.0',
        f'moa_open_prompt_pinned_tokens{{role="decode",worker="{fake.pair.decode.url}"}} 7.0',
    ):
        assert line in told


@aio
async def test_a_prompt_that_is_given_up_is_closed() -> None:
    fake = Segments(overlay=True)
    async with started(fake.pair):
        async with fake.prompt() as prompt:
            prompt.append([1, 2, 3, 4, 5])
            await until(lambda: prompt.speculation.segments == 1, "a segment")
            assert fake.prompts.open
        await until(lambda: not fake.prompts.open, "it is closed")
        assert fake.prompts.counters.closed == 1
