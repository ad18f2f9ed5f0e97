"""Workers and the models they serve.

A model is served by *pairs*: prefill and decode servers of the same model, any of the first with any
of the second; or by *plain* servers, which are any that speak OpenAI's API.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, get_args

import orjson

from router.errors import NotFound, NoWorker, RouterError, UpstreamFailed
from router.http.client import Origin

Role = Literal["prefill", "decode", "plain"]
Capability = Literal["overlay", "fallback", "sglang", "openai"]
PROBE_TIMEOUT = 10.0  # seconds


@dataclass(eq=False)
class Worker:
    """One SGLang server.

    Attributes:
        url: Its address, `http://host:port`.
        role: Which side of a pair it is; `plain` when it is none.
        bootstrap_port: Where decode servers find this prefill server; None for decode servers.
        model: The name it serves under; None until it was asked.
        info: The parts of its `/server_info` that matter here.
        healthy: Whether the last probe succeeded.
        problem: One sentence on why it did not; None when it did.
        load: Requests in flight through this router; a prefill server's end with their prefill.
    """

    url: str
    role: Role
    bootstrap_port: int | None = None
    model: str | None = None
    info: dict[str, Any] = field(default_factory=dict)
    healthy: bool = False
    problem: str | None = None
    load: int = 0

    def __post_init__(self) -> None:
        self.origin = Origin(self.url)
        self.url = self.origin.url

    async def probe(self) -> None:
        """Ask the worker who it is; sets `model`, `info` and `healthy`, raises nothing upstream-caused."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                await self._ask_who()
        except TimeoutError:
            self.problem = f"{self.url} did not say within {PROBE_TIMEOUT:g} s what it serves."
        except orjson.JSONDecodeError:
            self.problem = f"{self.url} answered /server_info with something that is not JSON."
        except RouterError as error:
            self.problem = str(error)
        else:
            self.problem = None
        self.healthy = self.problem is None

    async def _ask_who(self) -> None:
        status, body = await self._get("/server_info")
        if status == HTTPStatus.OK:
            self._learn(orjson.loads(body))
            return
        if self.role == "plain" and status == HTTPStatus.NOT_FOUND:
            status, body = await self._get("/v1/models")
            if status == HTTPStatus.OK:
                self._learn_openai(orjson.loads(body))
                return
        raise UpstreamFailed(f"{self.url} answered /server_info with {status}.")

    async def _get(self, path: str) -> tuple[int, bytes]:
        async with await self.origin.request("GET", path) as response:
            return response.status, await response.read()

    def _learn_openai(self, told: Any) -> None:
        """From a server that is no SGLang: the first of its models."""
        try:
            first = told["data"][0]
            self.model, length = str(first["id"]), first.get("max_model_len")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise UpstreamFailed(f"{self.url} does not say in /v1/models which model it serves.") from None
        self.info = {"context_length": length}

    def _learn(self, told: Any) -> None:
        if not isinstance(told, dict) or not isinstance(told.get("served_model_name"), str):
            raise UpstreamFailed(f"{self.url} does not say in /server_info which model it serves.")
        mode = told.get("disaggregation_mode", self.role)
        if ("plain" if mode in ("null", None) else mode) != self.role:
            raise UpstreamFailed(f"{self.url} was given as {self.role} server but runs in mode {mode!r}.")
        self.model = told["served_model_name"]
        states = told.get("internal_states")
        state = states[0] if isinstance(states, list) and states and isinstance(states[0], dict) else {}
        self.info = {
            "sglang": told.get("version"),
            "disaggregation_mode": told.get("disaggregation_mode"),
            "context_length": told.get("context_length"),
            "skip_tokenizer_init": told.get("skip_tokenizer_init"),
            "overlay": state.get("sglang_ext"),
        }

    @property
    def overlay(self) -> bool:
        """Whether the worker runs this project's overlay."""
        return bool(self.info.get("overlay"))

    @property
    def open_prompts(self) -> dict[str, Any] | None:
        """What the worker's overlay tells of open prompts; None when it has none."""
        told = (self.info.get("overlay") or {}).get("open_prompts")
        return told if isinstance(told, dict) and "ttl" in told else None

    @property
    def capability(self) -> Capability:
        """How far it takes part in what this router does.

        `overlay`: open prompts; `fallback`: prompts are prefilled ahead by ordinary requests; `sglang` and
        `openai`: whole requests only, trees and early exit.
        """
        if self.role != "plain":
            return "overlay" if self.open_prompts is not None else "fallback"
        return "sglang" if self.info.get("sglang") is not None else "openai"

    def describe(self) -> dict[str, Any]:
        """What `/workers` tells about it."""
        return {
            "url": self.url,
            "role": self.role,
            "bootstrap_port": self.bootstrap_port,
            "model": self.model,
            "healthy": self.healthy,
            "problem": self.problem,
            "load": self.load,
            "capability": self.capability,
            "sglang": self.info.get("sglang"),
            "overlay": self.info.get("overlay"),
        }


@dataclass(frozen=True)
class Pair:
    """The prefill and the decode server chosen for one request."""

    prefill: Worker
    decode: Worker


class Registry:
    """All workers, by model and role."""

    def __init__(self, workers: Iterable[Worker]) -> None:
        self.workers = list(workers)

    async def probe(self) -> None:
        """Probe all workers at once."""
        await asyncio.gather(*(worker.probe() for worker in self.workers))

    def models(self) -> list[str]:
        """Names of the models that have a healthy prefill and a healthy decode server, or a healthy plain one."""
        prefill, decode, plain = (
            {w.model for w in self.workers if w.healthy and w.role == role} for role in get_args(Role)
        )
        order = [w.model for w in self.workers if w.model is not None]
        ready = (prefill & decode) | plain
        return [model for model in dict.fromkeys(order) if model in ready]

    def paired(self, model: str) -> bool:
        """Whether a model goes to pairs: always, unless only plain servers have it."""
        return all(worker.role != "plain" for worker in self.workers if worker.model == model)

    def plain(self, model: str) -> list[Worker]:
        """The model's healthy plain servers; raises as `healthy`."""
        return self.healthy(model, "plain")

    def healthy(self, model: str, role: Role) -> list[Worker]:
        """The model's healthy workers of a role, never empty.

        Raises:
            NotFound: No worker serves the model.
            NoWorker: The model is known but no worker of that role is healthy.
        """
        of_model = [worker for worker in self.workers if worker.model == model]
        if not of_model:
            known = ", ".join(self.models()) or "none is ready"
            raise NotFound(f"the model {model!r} is not served here; served: {known}.")
        found = [worker for worker in of_model if worker.role == role and worker.healthy]
        if not found:
            raise NoWorker(f"no {role} server of the model {model!r} is healthy; try again later.")
        return found

    def default_model(self) -> str | None:
        """The model a request without a model name gets: the only one, else None."""
        models = list(dict.fromkeys(w.model for w in self.workers if w.model is not None))
        return models[0] if len(models) == 1 else None

    def close(self) -> None:
        """Close idle connections."""
        for worker in self.workers:
            worker.origin.close()
