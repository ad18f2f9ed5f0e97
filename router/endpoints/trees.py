"""Trees as models: answers requests of `/v1/chat/completions` and `/v1/completions` whose `model` is a tree."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import orjson

from router.errors import BadRequest, NotFound, NoWorker, RouterError
from router.http.asgi import AsgiRequest
from router.http.merge_streams import merge_streams
from router.http.sse import DONE, format_error, format_event
from router.moa.model_roles import assign_roles, is_role
from router.moa.openai_format import EndpointKind, OpenAIFormat
from router.moa.run import Run
from router.moa.run_context import RunContext
from router.moa.run_limits import RunLimits
from router.moa.run_plan import RunPlan
from router.moa.tree import Tree
from router.moa.tree_files import Trees
from router.moa.tree_request import TreeRequest, read_tree_request
from router.observability.run_store import RunStore
from router.observability.run_trace import total_usage

if TYPE_CHECKING:
    from router.observability.tracing.request_span import RequestSpan


class TreeEndpoint:
    """Runs trees and answers with their final agents' texts."""

    def __init__(self, context: RunContext, trees: Trees, limits: RunLimits, store: RunStore) -> None:
        self._registry = context.registry
        self._context = context
        self.take_over(trees)
        self._limits = limits
        self._store = store

    def take_over(self, trees: Trees) -> None:
        """Answer from now on with these trees; runs that have begun go on with theirs."""
        self._trees = {tree.name: tree for tree in trees.trees}
        self._sampling = trees.models
        self._sizes = trees.sizes

    def serves(self, model: object) -> bool:
        """Whether a request's `model` is a tree."""
        return isinstance(model, str) and model in self._trees

    def ready_trees(self) -> list[str]:
        """Names of the trees whose models are all served."""
        served = set(self._registry.models())
        return [
            name for name, tree in self._trees.items() if served and _required_models(self._with_names(tree)) <= served
        ]

    async def answer(
        self, request: AsgiRequest, body: dict[str, Any], kind: EndpointKind, span: "RequestSpan | None" = None
    ) -> None:
        """Answer one request with a run of the tree that it names, one for each of its prompts.

        Raises:
            NotFound: The tree is gone: the trees file has changed since the request came.
            BadRequest: The request is wrong.
            TimedOutInQueue: There was no room in time for all its calls.
            TooManyRuns: The client, or all clients, have enough runs.
            NoWorker: A model of the tree is not served.
            RouterError: A run failed before the response began.
        """
        tree = self._trees.get(body["model"])
        if tree is None:
            raise NotFound(f"the tree {body['model']!r} is no longer served here; GET /v1/models tells what is.")
        tree_request = read_tree_request(body, kind, self._with_names(tree))
        for model in sorted(_required_models(tree_request.tree) or self._registry.known_models()):
            await self._context.dispatcher.selector.restarts.wait(model)
        await request.admission.reweigh(tree_request.calls)
        with self._limits.admit(request.client_key, len(tree_request.questions)):
            runs = self._start_runs(tree_request, request.namespace, span)
            response_format = OpenAIFormat(kind, runs[0].trace.id, tree_request.tree.name)
            try:
                if tree_request.stream:
                    await _send_stream(request, tree_request, runs, response_format)
                else:
                    await _send_response(request, tree_request, runs, response_format)
            finally:
                if self._store.redact_text:
                    for run in runs:
                        run.trace.redact()

    def _start_runs(self, tree_request: TreeRequest, owner: str, span: "RequestSpan | None") -> list[Run]:
        models = self._assign_models(tree_request.tree)
        self._check_length(tree_request, models[tree_request.tree.final.name])
        runs = [
            Run(
                self._context,
                RunPlan(
                    tree_request.tree,
                    models,
                    question,
                    sampling=self._sampling,
                    final_sampling=tree_request.sampling,
                    agent_sampling=tree_request.agent_sampling,
                    template_options=tree_request.template_options,
                    n=tree_request.n,
                    seed=tree_request.seed,
                    streaming=tree_request.stream,
                    owner=owner,
                ),
                span,
            )
            for question in tree_request.questions
        ]
        for run in runs:
            self._store.add(run.trace)
        return runs

    def _check_length(self, tree_request: TreeRequest, final_model: str) -> None:
        """Raise `BadRequest` if the answer alone would be longer than the final agent's context."""
        most = tree_request.sampling.get("max_tokens", 0)
        length = self._context.context_length(final_model) if self._registry.served_by_pairs(final_model) else None
        if length is not None and most >= length:
            raise BadRequest(f"`max_tokens` is {most}, but {final_model} has a context of {length} tokens.")

    def _with_names(self, tree: Tree) -> Tree:
        """The tree with models in place of roles; also of those that are away, so that a role stays with its model."""
        return assign_roles(tree, self._registry.known_models(), self._sizes)

    def _assign_models(self, tree: Tree) -> dict[str, str]:
        """Model name by agent name: the agent's own, else the served ones in turn."""
        served = self._registry.models()
        missing = _required_models(tree) - set(served)
        if not served or missing:
            reason = f"the model {sorted(missing)[0]!r} has no" if missing else "no model has a"
            if any(is_role(model) for model in missing):
                reason = "no served model has a size in the trees file, so that none has a"
            raise NoWorker(f"the tree {tree.name!r} cannot run: {reason} healthy pair; try again later.")
        agents = [agent for _, _, agent in tree.agents()]
        return {agent.name: agent.model or served[i % len(served)] for i, agent in enumerate(agents)}


async def _send_response(
    request: AsgiRequest, tree_request: TreeRequest, runs: list[Run], response_format: OpenAIFormat
) -> None:
    async with aclosing(merge_streams([run.answer() for run in runs])) as texts:
        async for _ in texts:
            pass
    finals = [run.final_trace(k) for run in runs for k in range(tree_request.n)]
    choices = [
        response_format.choice(index, final.text, final.finish_reason, final.output_ids)
        for index, final in enumerate(finals)
    ]
    await request.send_json({**response_format.response(choices, _usage(runs)), "moa": _moa(runs)})


async def _send_stream(
    request: AsgiRequest, tree_request: TreeRequest, runs: list[Run], response_format: OpenAIFormat
) -> None:
    async with aclosing(merge_streams([run.answer() for run in runs])) as texts:
        # The first text comes before the status line, so that a run that fails early gets its error's status.
        first = await anext(texts, None)
        await request.send_stream(_chunks(tree_request, runs, response_format, first, texts))


async def _chunks(
    tree_request: TreeRequest,
    runs: list[Run],
    response_format: OpenAIFormat,
    first: tuple[int, tuple[int, str]] | None,
    rest: AsyncIterator[tuple[int, tuple[int, str]]],
) -> AsyncIterator[bytes]:
    """Events of the response; items of `rest` are a run's index, and a final answer's index with its new text."""
    started: set[int] = set()

    def text_event(run: int, k: int, text: str) -> bytes:
        index = run * tree_request.n + k
        is_first = index not in started
        started.add(index)
        return (
            format_event(orjson.dumps(response_format.chunk(index, text, first=is_first))) if text or is_first else b""
        )

    if first is not None:
        yield text_event(first[0], *first[1])
    try:
        async for run_index, (k, text) in rest:
            if chunk := text_event(run_index, k, text):
                yield chunk
    except RouterError as error:
        yield format_error(error)
        return
    finals = [run.final_trace(k) for run in runs for k in range(tree_request.n)]
    for index, final in enumerate(finals):
        extra = {"moa": _moa(runs)} if index == len(finals) - 1 else {}
        yield format_event(orjson.dumps({**response_format.last_chunk(index, final.finish_reason), **extra}))
    if tree_request.include_usage:
        yield format_event(orjson.dumps(response_format.usage_chunk(_usage(runs))))
    yield format_event(DONE)


def _usage(runs: list[Run]) -> dict[str, int]:
    return total_usage(run.trace for run in runs)


def _moa(runs: list[Run]) -> Any:
    """`moa` of the response: the run's trace, or a list of them for several prompts."""
    traces = [run.trace.to_json() for run in runs]
    return traces[0] if len(traces) == 1 else traces


def _required_models(tree: Tree) -> set[str]:
    """The models that agents of the tree name."""
    return {agent.model for _, _, agent in tree.agents() if agent.model is not None}
