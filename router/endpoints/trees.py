"""A tree as a model of OpenAI's endpoints."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import orjson

from router.errors import NoWorker, RouterError
from router.http.asgi import AsgiRequest
from router.http.sse import DONE, format_error, format_event
from router.moa.merge_streams import merge_streams
from router.moa.openai_format import EndpointKind, OpenAIFormat
from router.moa.run import Run
from router.moa.run_context import RunContext
from router.moa.run_limits import RunLimits
from router.moa.tree import Tree, Trees
from router.moa.tree_request import TreeRequest, read_tree_request
from router.observability.run_store import RunStore
from router.observability.run_trace import total_usage

if TYPE_CHECKING:
    from router.observability.tracing.request_span import RequestSpan


class TreeEndpoint:
    """Runs trees for `/v1/chat/completions` and `/v1/completions`."""

    def __init__(self, context: RunContext, trees: Trees, limits: RunLimits, store: RunStore) -> None:
        self._registry = context.registry
        self._context = context
        self._trees = {tree.name: tree for tree in trees.trees}
        self._sampling = trees.models
        self._limits = limits
        self._store = store

    def serves(self, model: object) -> bool:
        """Whether a model name is a tree's."""
        return isinstance(model, str) and model in self._trees

    def ready_trees(self) -> list[str]:
        """Trees whose models are all healthy."""
        served = set(self._registry.models())
        return [name for name, tree in self._trees.items() if served and _wanted(tree) <= served]

    async def answer(
        self, request: AsgiRequest, body: dict[str, Any], kind: EndpointKind, span: "RequestSpan | None" = None
    ) -> None:
        """Answer one request with a run of the tree it names, or one for each of its prompts."""
        asked = read_tree_request(body, kind, self._trees[body["model"]])
        with self._limits.admit(request.client_key, len(asked.questions)):
            runs = self._start(asked, span)
            form = OpenAIFormat(kind, runs[0].trace.id, asked.tree.name)
            if asked.stream:
                await _stream(request, asked, runs, form)
            else:
                await _whole(request, asked, runs, form)

    def _start(self, asked: TreeRequest, span: "RequestSpan | None") -> list[Run]:
        models = self._assign(asked.tree)
        runs = [
            Run(
                self._context,
                asked.tree,
                models,
                self._sampling,
                question,
                asked.sampling,
                n=asked.n,
                seed=asked.seed,
                heard=asked.stream,
                span=span,
            )
            for question in asked.questions
        ]
        for run in runs:
            self._store.add(run.trace)
        return runs

    def _assign(self, tree: Tree) -> dict[str, str]:
        """A model for each agent: its own, else the served ones in turn."""
        served = self._registry.models()
        missing = _wanted(tree) - set(served)
        if not served or missing:
            what = f"the model {sorted(missing)[0]!r} has no" if missing else "no model has a"
            raise NoWorker(f"the tree {tree.name!r} cannot run: {what} healthy pair; try again later.")
        agents = [agent for _, _, agent in tree.agents()]
        return {agent.name: agent.model or served[i % len(served)] for i, agent in enumerate(agents)}


async def _whole(request: AsgiRequest, asked: TreeRequest, runs: list[Run], form: OpenAIFormat) -> None:
    async with aclosing(merge_streams([run.answer() for run in runs])) as pieces:
        async for _ in pieces:
            pass
    finals = [run.final(k) for run in runs for k in range(asked.n)]
    choices = [form.choice(i, each.text, each.finish_reason, each.output_ids) for i, each in enumerate(finals)]
    await request.send_json({**form.whole(choices, _usage(runs)), "moa": _moa(runs)})


async def _stream(request: AsgiRequest, asked: TreeRequest, runs: list[Run], form: OpenAIFormat) -> None:
    async with aclosing(merge_streams([run.answer() for run in runs])) as pieces:
        # The first piece comes before the status line, so that a run that fails early has an honest status.
        first = await anext(pieces, None)
        await request.send_stream(_events(asked, runs, form, first, pieces))


async def _events(
    asked: TreeRequest,
    runs: list[Run],
    form: OpenAIFormat,
    first: tuple[int, tuple[int, str]] | None,
    rest: AsyncIterator[tuple[int, tuple[int, str]]],
) -> AsyncIterator[bytes]:
    begun: set[int] = set()

    def piece(number: int, k: int, text: str) -> bytes:
        index = number * asked.n + k
        is_first = index not in begun
        begun.add(index)
        return format_event(orjson.dumps(form.piece(index, text, first=is_first))) if text or is_first else b""

    if first is not None:
        yield piece(first[0], *first[1])
    try:
        async for number, (k, text) in rest:
            if chunk := piece(number, k, text):
                yield chunk
    except RouterError as error:
        yield format_error(error)
        return
    finals = [run.final(k) for run in runs for k in range(asked.n)]
    for index, final in enumerate(finals):
        extra = {"moa": _moa(runs)} if index == len(finals) - 1 else {}
        yield format_event(orjson.dumps({**form.last(index, final.finish_reason), **extra}))
    if asked.include_usage:
        yield format_event(orjson.dumps(form.usage(_usage(runs))))
    yield format_event(DONE)


def _usage(runs: list[Run]) -> dict[str, int]:
    return total_usage(run.trace for run in runs)


def _moa(runs: list[Run]) -> Any:
    """The trace, or a list of them for a request of several prompts."""
    traces = [run.trace.to_json() for run in runs]
    return traces[0] if len(traces) == 1 else traces


def _wanted(tree: Tree) -> set[str]:
    return {agent.model for _, _, agent in tree.agents() if agent.model is not None}
