"""A tree as a model of OpenAI's chat endpoint."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, get_args

import orjson

from router.errors import BadRequest, NoWorker, RouterError
from router.http.asgi import Request
from router.http.sse import DONE, error_events, event
from router.moa.run import Context, Run
from router.moa.tree import Arm, Tree, Trees
from router.pd import Dispatcher
from router.splice.compose import Order
from router.workers import Registry

# Fields of a chat request that go to the final agent as they are.
PASSED_ON = (
    "temperature", "top_p", "top_k", "min_p", "stop", "seed", "presence_penalty", "frequency_penalty",
    "max_tokens", "ignore_eos",
)  # fmt: skip


class MoaEndpoint:
    """Runs trees for `/v1/chat/completions`."""

    def __init__(self, registry: Registry, dispatcher: Dispatcher, trees: Trees) -> None:
        self._registry = registry
        self._context = Context(dispatcher)
        self._trees = {tree.name: tree for tree in trees.trees}
        self._sampling = trees.models

    def serves(self, model: object) -> bool:
        """Whether a model name is a tree's."""
        return isinstance(model, str) and model in self._trees

    def ready_trees(self) -> list[str]:
        """Trees whose models are all healthy."""
        served = set(self._registry.models())
        return [name for name, tree in self._trees.items() if served and _wanted(tree) <= served]

    async def chat(self, request: Request, body: dict[str, Any]) -> None:
        """Answer one chat request with a run of the tree it names."""
        run = self._start(body)
        if body.get("stream"):
            await self._stream(request, body, run)
            return
        text = "".join([piece async for piece in run.answer()])
        final = run.trace.agents[-1]
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if final.output_ids:
            message["output_ids"] = final.output_ids
        choice = {"index": 0, "message": message, "finish_reason": final.finish_reason}
        await request.answer_json(
            {
                **_head(run, "chat.completion"),
                "choices": [choice],
                "usage": run.trace.usage(),
                "moa": run.trace.to_json(),
            }
        )

    def _start(self, body: dict[str, Any]) -> Run:
        tree = self._trees[body["model"]]
        final_sampling = {key: body[key] for key in PASSED_ON if body.get(key) is not None}
        if body.get("max_completion_tokens") is not None:
            final_sampling["max_tokens"] = body["max_completion_tokens"]
        # What only the last agent would stumble over is checked before the first one is asked.
        limit = final_sampling.get("max_tokens", 1)
        if type(limit) is not int or limit < 1:
            raise BadRequest("`max_tokens` must be an integer from 1 up.")
        if body.get("n") not in (None, 1):
            raise BadRequest("`n` must be 1: a run gives one answer.")
        if not isinstance(body.get("stream_options") or {}, dict):
            raise BadRequest("`stream_options` must be an object.")
        models = self._assign(tree)
        tree = _with_options(tree, body.get("moa"))
        return Run(self._context, tree, models, self._sampling, _question(body), final_sampling)

    def _assign(self, tree: Tree) -> dict[str, str]:
        """A model for each agent: its own, else the served ones in turn."""
        served = self._registry.models()
        missing = _wanted(tree) - set(served)
        if not served or missing:
            what = f"the model {sorted(missing)[0]!r} has no" if missing else "no model has a"
            raise NoWorker(f"the tree {tree.name!r} cannot run: {what} healthy pair; try again later.")
        agents = [agent for _, _, agent in tree.agents()]
        return {agent.name: agent.model or served[i % len(served)] for i, agent in enumerate(agents)}

    async def _stream(self, request: Request, body: dict[str, Any], run: Run) -> None:
        async with aclosing(run.answer()) as pieces:
            # The first piece comes before the status line, so that a run that fails early has an honest status.
            first = await anext(pieces, "")
            await request.stream(self._events(body, run, first, pieces))

    @staticmethod
    async def _events(body: dict[str, Any], run: Run, first: str, rest: AsyncIterator[str]) -> AsyncIterator[bytes]:
        head = _head(run, "chat.completion.chunk")

        def chunk(delta: dict[str, Any], finish: str | None = None, **extra: Any) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return event(orjson.dumps({**head, "choices": [choice], **extra}))

        yield chunk({"role": "assistant", "content": first})
        try:
            async for piece in rest:
                if piece:
                    yield chunk({"content": piece})
        except RouterError as error:
            yield error_events(error)
            return
        yield chunk({}, run.trace.agents[-1].finish_reason, moa=run.trace.to_json())
        if (body.get("stream_options") or {}).get("include_usage"):
            yield event(orjson.dumps({**head, "choices": [], "usage": run.trace.usage()}))
        yield event(DONE)


def _with_options(tree: Tree, options: object) -> Tree:
    """The tree with the arm and order that a request asks for under `moa`."""
    if options is None:
        return tree
    if not isinstance(options, dict) or options.keys() - {"arm", "order"}:
        raise BadRequest("`moa` must be an object with `arm` and `order` only.")
    for key, allowed in (("arm", get_args(Arm)), ("order", get_args(Order))):
        if key in options and options[key] not in allowed:
            raise BadRequest(f"`moa.{key}` must be one of {', '.join(allowed)}.")
    return tree.model_copy(update=options)


def _wanted(tree: Tree) -> set[str]:
    return {agent.model for _, _, agent in tree.agents() if agent.model is not None}


def _head(run: Run, kind: str) -> dict[str, Any]:
    return {"id": run.trace.id, "object": kind, "created": int(time.time()), "model": run.trace.tree}


def _question(body: dict[str, Any]) -> Any:
    """The client's messages, or its `input_ids` for models that run without a tokenizer."""
    ids = body.get("input_ids")
    if ids is not None:
        if not isinstance(ids, list) or not ids or not all(type(token) is int and token >= 0 for token in ids):
            raise BadRequest("`input_ids` must be a list of at least one token id, each an integer from 0 up.")
        return ids
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise BadRequest("`messages` must be a list of at least one message object.")
    return messages
