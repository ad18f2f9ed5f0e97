"""Readers with another tokenizer than the answer they read: their prompts say what the answer said.

The pairs are fakes with real tokenizers: they keep the prompts that they get, and write the token ids a test wants.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer

from router.speculative_prefill.upstream_answer import UpstreamAnswer
from router.speculative_prefill.vocabulary import Vocabulary
from sglang_ext.tokenizer_fingerprint import tokenizer_fingerprint
from tests.other_tokenizers import CHANGES, changed, first_tokens
from tests.router.support.aio import aio
from tests.router.support.fakes import Call, FakePair, FakeWorker, native_event
from tests.router.support.serving import Serving, serving

COMPLETIONS = "/v1/completions"
# What only one of two tokenizers has, or has elsewhere: `CHANGES`
SAID = "The sky is blue as a blueberry, not green. <|tool|><file_sep><|turn_end|>"


@pytest.fixture(scope="module")
def smol() -> Tokenizer:
    return first_tokens(10_000)


def encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def letters(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids that say a text as no tokenizer would: a letter each. So ids and their text can be told apart."""
    return [each for letter in text for each in encoded(tokenizer, letter)]


class TokenizingPair(FakePair):
    """A pair of one model that writes certain token ids; None is a pair without a tokenizer.

    With `overlay` it tells its tokenizer's fingerprint.
    """

    def __init__(self, model: str, tokenizer: Tokenizer | None, ids: list[int], *, overlay: bool = True) -> None:
        super().__init__(model)
        self.tokenizer = tokenizer
        self.ids = ids
        for worker in (self.prefill, self.decode):
            worker.server.handler = self.handle_at(worker)
            worker.info["skip_tokenizer_init"] = tokenizer is None
            if overlay and tokenizer is not None:
                tell_tokenizer(worker, tokenizer)

    def handle_at(self, worker: FakeWorker) -> Any:
        handle = worker.server.handler

        async def tokenizing(call: Call) -> None:
            if call.path not in ("/tokenize", "/detokenize"):
                await handle(call)
            elif self.tokenizer is None:
                await call.answer({"error": {"message": "'NoneType' object has no attribute 'encode'"}}, 500)
            elif call.path == "/tokenize":
                await call.answer({"tokens": [encoded(self.tokenizer, text) for text in call.json["prompt"]]})
            else:
                await call.answer({"text": self.tokenizer.decode(call.json["tokens"], skip_special_tokens=False)})

        return tokenizing

    async def prefilled(self, call: Call) -> None:
        if await call.waits_for(self.room(call)):
            await call.answer({})

    async def decoded(self, call: Call) -> None:
        self.room(call).set()
        half = len(self.ids) // 2
        await call.stream(self.event(half), self.event(len(self.ids), "stop"))
        await call.done()

    def event(self, count: int, finish: str | None = None) -> dict[str, Any]:
        ids = self.ids[:count]
        text = "" if self.tokenizer is None else self.tokenizer.decode(ids, skip_special_tokens=False)
        return native_event(text, finish, (10, count), ids)

    def asked(self, path: str) -> int:
        """How often its servers were asked to tokenize or detokenize."""
        return sum(len(worker.server.to(path)) for worker in (self.prefill, self.decode))

    @property
    def read(self) -> list[int]:
        """The last prompt."""
        ids: list[int] = self.decode.requests[-1].json["input_ids"]
        return ids


def tell_tokenizer(worker: FakeWorker, tokenizer: Tokenizer) -> None:
    """Let a server tell its tokenizer as the overlay does."""
    worker.info["internal_states"] = [{"sglang_ext": {"tokenizer": fingerprint(tokenizer)}}]


@cache
def fingerprint(tokenizer: Tokenizer) -> str | None:
    """What a server makes once, when it loads its tokenizer."""
    return tokenizer_fingerprint(SimpleNamespace(backend_tokenizer=tokenizer))


async def read_answer(router: Serving, writer: str, reader: str) -> None:
    """An agent of one model answers, and one of another model reads it."""
    said = await router.post(COMPLETIONS, {"run": "r", "agent": "a", "model": writer, "prompt": "Speak."})
    assert said.status_code == 200, said.text
    read = await router.post(COMPLETIONS, {"run": "r", "model": reader, "prompt": "Weigh: <|answer:a|> Well?"})
    assert read.status_code == 200, read.text


def prompt_of(tokenizer: Tokenizer, answer: list[int]) -> list[int]:
    return [*encoded(tokenizer, "Weigh: "), *answer, *encoded(tokenizer, " Well?")]


@pytest.mark.parametrize("overlay", [True, False])
@pytest.mark.parametrize("change", CHANGES)
@aio
async def test_a_reader_of_another_tokenizer_gets_the_text(smol: Tokenizer, change: str, overlay: bool) -> None:
    other = changed(smol, change)
    for mine, yours in ((smol, other), (other, smol)):
        writer = TokenizingPair("writer", mine, encoded(mine, SAID), overlay=overlay)
        reader = TokenizingPair("reader", yours, [1], overlay=overlay)
        async with serving(writer, reader) as router:
            await read_answer(router, "writer", "reader")
            assert yours.decode(reader.read, skip_special_tokens=False) == f"Weigh: {SAID} Well?"
            if overlay:
                assert reader.read == prompt_of(yours, encoded(yours, SAID))
                assert (writer.asked("/tokenize"), writer.asked("/detokenize")) == (1, 0), "only for its own prompt"


@pytest.mark.parametrize("overlay", [True, False])
@aio
async def test_a_reader_of_the_same_tokenizer_gets_the_ids(smol: Tokenizer, overlay: bool) -> None:
    ids = letters(smol, SAID)
    assert ids != encoded(smol, SAID)
    writer = TokenizingPair("writer", smol, ids, overlay=overlay)
    reader = TokenizingPair("reader", Tokenizer.from_str(smol.to_str()), [1], overlay=overlay)
    async with serving(writer, reader) as router:
        await read_answer(router, "writer", "reader")
        assert reader.read == prompt_of(smol, ids)
        # Servers that tell their tokenizers are asked for nothing but the prompt, others what the ids say.
        assert reader.asked("/detokenize") == (0 if overlay else 1)
        assert reader.asked("/tokenize") == (1 if overlay else 2)


@pytest.mark.parametrize("told", [True, False])
@aio
async def test_a_prompt_of_ids_says_what_the_answer_said(smol: Tokenizer, told: bool) -> None:
    other = changed(smol, "two words swapped")
    writer = TokenizingPair("writer", other, encoded(other, SAID), overlay=told)
    reader = TokenizingPair("reader", smol, [1], overlay=told)
    async with serving(writer, reader) as router:
        await router.post(COMPLETIONS, {"run": "r", "agent": "a", "model": "writer", "prompt": "Speak."})
        asked = {"run": "r", "model": "reader", "input_ids": [5, "<|answer:a|>", 6], "sampling_params": {}}
        assert (await router.post("/generate", asked)).status_code == 200
        assert reader.read == [5, *encoded(smol, SAID), 6]


@aio
async def test_servers_without_a_tokenizer_take_ids_as_they_are(smol: Tokenizer) -> None:
    ids = [7, 8, 9]
    pairs = [TokenizingPair(name, None, ids) for name in ("writer", "reader")]
    async with serving(*pairs, TokenizingPair("speaker", smol, [1])) as router:
        for model, agent in (("writer", "a"), ("reader", "b")):
            asked = {"run": "r", "agent": agent, "model": model, "sampling_params": {}}
            prompt = [5, "<|answer:a|>"] if agent == "b" else [5]
            assert (await router.post("/generate", {**asked, "input_ids": prompt})).status_code == 200
        assert pairs[1].read == [5, 7, 8, 9]
        refused = await router.post(COMPLETIONS, {"run": "r", "model": "speaker", "prompt": "<|answer:a|>"})
        assert refused.status_code == 400
        assert "writer runs without a tokenizer" in refused.json()["error"]["message"]


@aio
async def test_a_model_that_comes_back_with_another_tokenizer(smol: Tokenizer) -> None:
    """Its earlier answers are in another tokenizer's ids, though the model's name is the same."""
    pair = TokenizingPair("m", smol, encoded(smol, SAID))
    async with serving(pair) as router:
        await router.post(COMPLETIONS, {"run": "r", "agent": "a", "model": "m", "prompt": "Speak."})
        pair.tokenizer = other = changed(smol, "two words swapped")
        for fake in (pair.prefill, pair.decode):
            tell_tokenizer(fake, other)
        for worker in router.registry.workers:
            await worker.probe()
        assert (await router.post(COMPLETIONS, {"run": "r", "prompt": "Weigh: <|answer:a|> Well?"})).status_code == 200
        assert pair.read == prompt_of(other, encoded(other, SAID))


def test_what_is_compared() -> None:
    def of(model: str, *fingerprints: str | None) -> Vocabulary:
        return Vocabulary(model, frozenset(fingerprints))

    assert of("m", "x").compare(of("n", "x")) == "same"
    assert of("m", "x").compare(of("n", "y")) == "different"
    assert of("m", "x").compare(of("m", "y")) == "different", "one name, another tokenizer"
    assert of("m", "x", "y").compare(of("m", "x")) == "different", "its servers do not agree among themselves"
    assert of("m", None).compare(of("m", None)) == "same"
    assert of("m", None).compare(of("n", None)) == "unknown"
    assert of("m", "x", None).compare(of("n", "x")) == "unknown"
    assert Vocabulary("m", frozenset({None}), ids_only=True).compare(of("n", "x")) == "same"


def test_a_retry_forgets_whose_ids_they_were() -> None:
    answer = UpstreamAnswer("a")
    answer.vocabulary = Vocabulary("m", frozenset({"x"}))
    answer.update([1, 2], "said")
    answer.restart()
    assert not any((answer.vocabulary, answer.ids, answer.text))
