"""Workers and the models they serve.

A model is served by *pairs*: prefill and decode servers of the same model, any of the first with any
of the second; or by *plain* servers, which are any that speak OpenAI's API.
"""

import asyncio
import uuid
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

import orjson

from router.errors import RouterError, UpstreamFailed
from router.http_client.origin import Origin
from router.workers.circuit_breaker import CircuitBreaker
from router.workers.health import HealthSettings, HealthTracker

Role = Literal["prefill", "decode", "plain"]
Capability = Literal["overlay", "fallback", "sglang", "openai"]
ROLES: tuple[Role, Role] = ("prefill", "decode")


@dataclass(eq=False)
class Worker:
    """One server.

    Attributes:
        url: Its address, `http://host:port`.
        role: Which side of a pair it is; `plain` when it is none.
        bootstrap_port: Where decode servers find this prefill server; None for decode servers.
        model: The name it serves under; None until it was asked.
        info: The parts of its `/server_info` that matter here.
        healthy: Whether the last probe succeeded.
        problem: One sentence on why it did not; None when it did.
        load: Requests in flight through this router; a prefill server's end with their prefill.
        draining: It was removed: its requests end, it gets no new ones.
        needs_proof: It gets requests only once a pair with it has generated something.
        proven: One has, since it was last found healthy.
        api_key: The key that it wants, or None.
        health: When it counts as healthy.
    """

    url: str
    role: Role
    bootstrap_port: int | None = None
    model: str | None = None
    info: dict[str, Any] = field(default_factory=dict)
    healthy: bool = False
    problem: str | None = None
    load: int = 0
    draining: bool = False
    needs_proof: bool = False
    proven: bool = False
    api_key: str | None = field(default=None, repr=False)
    health: HealthSettings = field(default_factory=HealthSettings)
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)

    def __post_init__(self) -> None:
        self.origin = Origin(self.url)
        if self.api_key is not None:
            self.origin.add_default_header(("authorization", f"Bearer {self.api_key}"))
        self.url = self.origin.url
        # The same in every process of a router, and after a restart.
        self.id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.role} {self.url}"))
        self.health_tracker = HealthTracker(self.health, ever_healthy=self.healthy)

    @property
    def host(self) -> str:
        """The host of its address."""
        return self.origin.host

    @property
    def port(self) -> int:
        """The port of its address."""
        return self.origin.port

    @property
    def usable(self) -> bool:
        """Whether it may get requests."""
        return self.healthy and not self.draining and (self.proven or not self.needs_proof)

    async def probe(self) -> None:
        """Look whether the worker is well and who it is.

        Sets `model`, `info`, `healthy` and `problem`; raises nothing upstream-caused.
        """
        if self.health_tracker.ever_healthy and self.health.disable_checks:
            return
        definite, path = False, "/server_info"
        timeout = self.health.timeout_secs
        try:
            async with asyncio.timeout(timeout):
                if self.health_tracker.health_check_due():
                    path = self.health.endpoint
                    await self._get(path)
                    self.health_tracker.health_checked()
                path = "/server_info"
                told = await self._ask_who()
        except TimeoutError:
            problem: str | None = f"{self.url} did not answer {path} within {timeout:g} s."
        except orjson.JSONDecodeError:
            problem = f"{self.url} answered {path} with something that is not JSON."
        except RouterError as error:
            problem = str(error)
        else:
            problem = self._learn(told)
            definite = problem is not None  # it is well, but not what it should be
        self._judge(problem, definite)

    async def _ask_who(self) -> Any:
        """What SGLang says of itself, or the first model of another server in the same form."""
        try:
            return orjson.loads(await self._get("/server_info"))
        except UpstreamFailed as error:
            if self.role != "plain" or error.upstream_status != HTTPStatus.NOT_FOUND:
                raise
        told = orjson.loads(await self._get("/v1/models"))
        models = told.get("data") if isinstance(told, dict) else None
        first = models[0] if isinstance(models, list) and models and isinstance(models[0], dict) else {}
        return {"served_model_name": first.get("id"), "context_length": first.get("max_model_len")}

    async def _get(self, path: str) -> bytes:
        async with await self.origin.request("GET", path) as response:
            body = await response.read()
        if response.status != HTTPStatus.OK:
            error = UpstreamFailed(f"{self.url} answered {path} with {response.status}.")
            error.upstream_status = response.status
            raise error
        return body

    def _judge(self, problem: str | None, definite: bool) -> None:
        before, self.healthy = self.healthy, self.health_tracker.record(well=problem is None, definite=definite)
        self.problem = problem
        if self.healthy and not before:
            self.breaker.reset()
        if not self.healthy:
            self.proven = False
            self.problem = problem or f"{self.url} is back; {self.health_tracker.progress} looks at it were good."

    def _learn(self, told: Any) -> str | None:
        """Remember what it says about itself; a sentence when that does not do."""
        if not isinstance(told, dict) or not isinstance(told.get("served_model_name"), str):
            return f"{self.url} does not say in /server_info which model it serves."
        mode = told.get("disaggregation_mode", self.role)
        if ("plain" if mode in ("null", None) else mode) != self.role:
            return f"{self.url} was given as {self.role} server but runs in mode {mode!r}."
        if self.role == "prefill" and self.bootstrap_port is None:
            port = told.get("disaggregation_bootstrap_port")
            if not isinstance(port, int):
                return f"{self.url} does not say its bootstrap port; give it after the address."
            self.bootstrap_port = port
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
        return None

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
            "id": self.id,
            "url": self.url,
            "role": self.role,
            "worker_type": self.role,
            "bootstrap_port": self.bootstrap_port,
            "model": self.model,
            "model_id": self.model,
            "healthy": self.healthy,
            "is_healthy": self.healthy,
            "problem": self.problem,
            "load": self.load,
            "connection_mode": "HTTP",
            "breaker": self.breaker.state,
            "generated": self.proven,
            "draining": self.draining,
            "capability": self.capability,
            "sglang": self.info.get("sglang"),
            "overlay": self.info.get("overlay"),
        }


@dataclass(frozen=True)
class Pair:
    """The prefill and the decode server chosen for one request."""

    prefill: Worker
    decode: Worker
