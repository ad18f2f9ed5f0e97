"""One question through one tree, layer by layer: each layer waits for the one before it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import orjson

from router.errors import UpstreamFailed
from router.http.sse import events
from router.moa.prompts import Messages, aggregator_messages, proposer_messages
from router.moa.trace import AgentTrace, RunTrace
from router.moa.tree import Agent, Tree
from router.pd import Dispatcher, error_message


class Run:
    """A run; `answer` yields the final agent's text as it comes, `trace` fills meanwhile.

    Args:
        dispatcher: Sends the agents' requests.
        tree: The tree.
        models: Agent name -> model name.
        sampling: Model name -> default sampling.
        question: The client's messages, or its token ids where the models run without a tokenizer.
        final_sampling: What the client asked for; goes to the final agent.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        tree: Tree,
        models: Mapping[str, str],
        sampling: Mapping[str, dict[str, Any]],
        question: Messages | list[int],
        final_sampling: dict[str, Any],
    ) -> None:
        self.trace = RunTrace(tree.name)
        self._dispatcher = dispatcher
        self._tree = tree
        self._sampling = sampling
        self._question = question
        self._final_sampling = final_sampling
        self._members: dict[str, list[AgentTrace]] = {}
        self._traces: dict[str, AgentTrace] = {}
        for layer, cluster, agent in tree.agents():
            trace = AgentTrace(agent.name, cluster.name, layer, models[agent.name])
            self._traces[agent.name] = trace
            self._members.setdefault(cluster.name, []).append(trace)
            self.trace.agents.append(trace)

    async def answer(self) -> AsyncGenerator[str]:
        """Pieces of the final answer (empty ones for token-id runs).

        Raises `RouterError` when an agent fails; the rest of its layer is cancelled.
        """
        for layer in self._tree.layers[:-1]:
            try:
                async with asyncio.TaskGroup() as group:
                    for cluster in layer.clusters:
                        for agent in cluster.agents:
                            group.create_task(self._finish(agent))
            except* Exception as errors:
                raise _first(errors) from None
        async with aclosing(self._ask(self._tree.final, self._final_sampling)) as pieces:
            async for piece in pieces:
                yield piece

    async def _finish(self, agent: Agent) -> None:
        async for _ in self._ask(agent, {}):
            pass

    async def _ask(self, agent: Agent, sampling: dict[str, Any]) -> AsyncGenerator[str]:
        trace = self._traces[agent.name]
        chosen = {**self._sampling.get(trace.model, {}), **agent.sampling, **sampling}
        chosen.setdefault("max_tokens", agent.max_tokens)
        path, body = self._request(agent, trace.model, chosen)
        pair = self._dispatcher.choose(trace.model)
        trace.start = self.trace.now()
        async with self._dispatcher.exchange(path, body, pair) as exchange:
            if exchange.decode.status != 200:
                words = b"".join([chunk async for chunk in exchange.body()])
                raise UpstreamFailed(f"agent {agent.name} failed with {exchange.decode.status}: {error_message(words)}")
            async for event in events(exchange.body()):
                piece = self._read(trace, event, agent.name)
                if trace.first_token is None and (piece or trace.output_ids):
                    trace.first_token = self.trace.now()
                trace.text += piece
                yield piece
            if trace.finish_reason is None:
                raise UpstreamFailed(f"agent {agent.name} failed: its answer ended without a finish reason.")
            trace.end = self.trace.now()

    def _request(self, agent: Agent, model: str, sampling: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        upstream = [trace for name in agent.reads for trace in self._members[name]]
        if _is_ids(self._question):
            ids = [*self._question, *(token for trace in upstream for token in trace.output_ids)]
            return "/generate", {"input_ids": ids, "stream": True, "sampling_params": _native(sampling)}
        question: Any = self._question
        messages = (
            aggregator_messages(agent.role, question, [trace.text for trace in upstream])
            if upstream
            else proposer_messages(agent.role, question)
        )
        body = {"model": model, "messages": messages, "stream": True, **sampling}
        return "/v1/chat/completions", {**body, "stream_options": {"include_usage": True}}

    @staticmethod
    def _read(trace: AgentTrace, event: bytes, name: str) -> str:
        """Take one server-sent event into the trace; return its new text."""
        try:
            told = orjson.loads(event)
            if "error" in told:
                raise UpstreamFailed(f"agent {name} failed while it answered: {error_message(event)}")
            piece = Run._learn(trace, told)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UpstreamFailed(f"agent {name} failed: its answer is not in SGLang's form.") from None
        if trace.finish_reason == "abort":
            raise UpstreamFailed(f"agent {name} failed: its worker aborted it.")
        return piece

    @staticmethod
    def _learn(trace: AgentTrace, told: dict[str, Any]) -> str:
        if "meta_info" in told:
            meta = told["meta_info"]
            trace.finish_reason = (meta.get("finish_reason") or {}).get("type")
            if trace.finish_reason == "abort":
                return ""  # such an event has no counts
            trace.output_ids = told["output_ids"]
            _count(trace, meta["prompt_tokens"], meta["completion_tokens"], meta.get("cached_tokens", 0))
            return ""
        usage = told.get("usage")
        if usage:
            details = usage.get("prompt_tokens_details") or {}
            _count(trace, usage["prompt_tokens"], usage["completion_tokens"], details.get("cached_tokens", 0))
        if not told["choices"]:
            return ""
        choice = told["choices"][0]
        trace.finish_reason = choice.get("finish_reason") or trace.finish_reason
        return choice["delta"].get("content") or ""


def _count(trace: AgentTrace, prompt: int, completion: int, cached: int) -> None:
    trace.prompt_tokens, trace.completion_tokens, trace.cached_tokens = prompt, completion, cached


def _is_ids(question: Messages | list[int]) -> bool:
    return isinstance(question[0], int)


def _native(sampling: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's sampling names as SGLang's `/generate` takes them."""
    renamed = dict(sampling)
    renamed["max_new_tokens"] = renamed.pop("max_tokens")
    seed = renamed.pop("seed", None)
    return renamed if seed is None else {**renamed, "sampling_seed": seed}


def _first(errors: BaseExceptionGroup[Exception]) -> Exception:
    """The first cause in a group: the others are its cancelled neighbours."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
