"""A worker: one inference server, with what is known of it, and the probe that asks it.

A model is served by *pairs*, in which any prefill server works with any decode server of the model, or by *plain*
servers, which are any that speak OpenAI's API.
"""

import asyncio
import copy
import uuid
from dataclasses import dataclass, replace
from typing import Any, Literal

from router.errors import RouterError, UpstreamFailed
from router.http_client.origin import Origin
from router.tls.contexts import WorkerTls
from router.workers.circuit_breaker import CircuitBreaker
from router.workers.health import HealthSettings
from router.workers.kv_blocks import KvBlocks
from router.workers.served_models import ServedModels
from router.workers.server_load import ServerLoad
from router.workers.server_probe import KEY_REFUSED, ServerProbe
from router.workers.worker_config import WorkerConfig
from router.workers.worker_health import WorkerHealth
from router.workers.worker_load import WorkerLoad
from router.workers.worker_report import WorkerReport

Role = Literal["prefill", "decode", "plain"]
Capability = Literal["overlay", "fallback", "sglang", "openai"]
PAIR_ROLES: tuple[Role, Role] = ("prefill", "decode")
UNKNOWN_MODEL = "unknown"  # in metrics and logs: the name is a client's, and the worker tells none


class Worker:
    """One inference server.

    Args:
        url: Its address, which is normalised.
        role: Its role in a pair, or `plain`.
        bootstrap_port: The port of a prefill server's bootstrap server, if it is known; None for other roles.
        models: Its models, as far as they are known before the first probe.
        healthy: Whether it is taken to be well before its first probe.
        needs_warm_up: Whether it gets requests only after a pair with it has generated something.
        is_split: Whether its data-parallel ranks get requests, instead of the server as a whole.
        takes_client_keys: Whether clients' keys reach it: a router with keys of its own sends none on.
        api_key: The API key sent to it, or None.
        tls: The certificates for an address with `https`; None for the system's.
        health_settings: How it is probed.
        breaker: Its circuit breaker.

    Attributes:
        url: Its address, normalised to `http://host:port`, or with `https`.
        role: As given.
        rank: The number of a data-parallel rank; None for a whole server.
        ranks: The ranks that get requests instead of the server. Each has an address with `@rank`, a load, and what is
            known of its load and its cache; everything else it has in common with the server.
        origin: Its connections.
        id: The same id in every process of a router, and after a restart.
        bootstrap_port: As given, or as the server or an operator said.
        api_key: The API key sent to it, or None.
        config: What an operator said about it.
        breaker: Its circuit breaker.
        served: Its models; the probe and `configure` replace them.
        report: What the server said of itself; the probe replaces it.
        health: Whether it may get requests.
        load: What this router has under way on it.
        server_load: What the server says of its load; None if it is not asked, or does not say it now. `LoadMonitor`
            sets it.
        kv_blocks: The blocks in its KV cache, as its events tell; None if they are not followed. `KvEventMonitor` sets
            it.
    """

    def __init__(
        self,
        url: str,
        role: Role,
        bootstrap_port: int | None = None,
        *,
        models: tuple[str, ...] = (),
        healthy: bool = False,
        needs_warm_up: bool = False,
        is_split: bool = False,
        takes_client_keys: bool = True,
        api_key: str | None = None,
        tls: WorkerTls | None = None,
        health_settings: HealthSettings | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self.origin = Origin(url, tls=tls)
        self.url = self.origin.url
        self.role = role
        self.id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{role} {self.url}"))
        self.bootstrap_port = bootstrap_port
        self.api_key = api_key
        self.rank: int | None = None
        self.ranks: tuple[Worker, ...] = ()
        self._server: Worker | None = None
        self._is_split = is_split
        self._takes_client_keys = takes_client_keys
        self.config = WorkerConfig()
        self.breaker = breaker or CircuitBreaker()
        self.served = ServedModels(models)
        self.report = WorkerReport()
        settings = health_settings or HealthSettings()
        self.health = WorkerHealth(self.url, settings, needs_warm_up=needs_warm_up, healthy=healthy)
        self.load = WorkerLoad()
        self.server_load: ServerLoad | None = None
        self.kv_blocks: KvBlocks | None = None
        self._send_key()

    def configure(self, config: WorkerConfig, api_key: str | None, health: HealthSettings) -> None:
        """Change its settings.

        Args:
            config: What an operator says about it.
            api_key: The API key sent to it, its own or the router's, or None.
            health: How it is probed.
        """
        self.config, self.api_key = config, api_key
        self.health.tracker.settings = health
        if config.bootstrap_port is not None:
            self.bootstrap_port = config.bootstrap_port
        if self.served.listed:
            self.served = ServedModels.of(self.served.listed, config.model_id)
        elif config.model_id is not None:
            self.served = ServedModels((config.model_id,))
        self._send_key()
        self._update_ranks()

    def _send_key(self) -> None:
        """Send the API key, if there is one, with every request from now on."""
        self.origin.set_default_header("authorization", None if self.api_key is None else f"Bearer {self.api_key}")

    @property
    def server(self) -> "Worker":
        """The whole server: of a rank its server, else this worker itself."""
        return self._server or self

    @property
    def destinations(self) -> "tuple[Worker, ...]":
        """What requests are sent to: its ranks, or where there are none itself."""
        return self.ranks or (self,)

    @property
    def host(self) -> str:
        """The host in its address."""
        return self.origin.host

    @property
    def port(self) -> int:
        """The port in its address."""
        return self.origin.port

    @property
    def models(self) -> tuple[str, ...]:
        """What clients call its models; empty before the first successful probe."""
        return self.served.names

    @property
    def model(self) -> str | None:
        """Of several models the first; None where none is known."""
        return self.served.names[0] if self.served.names else None

    @property
    def serves_any(self) -> bool:
        """Whether it is asked for any model, since which ones it serves is not to be known without a client's key."""
        return self.health.wants_key and not self.models

    @property
    def needs_attention(self) -> bool:
        """Whether it should be probed now and not at the next interval."""
        health = self.health
        return health.suspected or health.recovering or (self.breaker.state != "closed" and not health.draining)

    def begin_request(self, model: str | None, places: int = 0) -> None:
        """Count a request that is sent to it; a name that it is not known to serve must not become a metric's label."""
        self.load.begin(model if model is not None and model in self.models else UNKNOWN_MODEL, places)

    async def probe(self) -> None:
        """Ask the worker what it serves, and call its health endpoint when that is due.

        Sets `served`, `report` and `health`. A worker that fails raises no error here. One of a pair that is back is
        only asked for its model's name, so that its warm-up begins at once; if that is the same, the rest is asked by
        the next probe.
        """
        health = self.health
        if not health.begin_probe():
            return
        probe = ServerProbe(
            self.origin,
            plain=self.role == "plain",
            was_sglang=self.report.sglang is not None,
            has_key=self.api_key is not None,
        )
        timeout = health.settings.timeout_secs
        problem: str | None
        conclusive = False
        try:
            async with asyncio.timeout(timeout):
                if health.may_be_back and self.role != "plain" and await probe.first_model() in self.served.listed[:1]:
                    self._is_back()
                    return
                if health.tracker.health_check_due():
                    health.checked(await probe.check_health(health.settings.endpoint))
                server_info = await probe.server_info()
        except TimeoutError:
            problem = f"{self.url} did not answer {probe.path} within {timeout:g} s."
        except RouterError as error:
            health.unanswered(error)
            problem = self._problem_of(error)
        else:
            was_away = health.answered()
            before = self.report.process
            problem = self._take_over(server_info, probe.path)
            restarted = was_away or (None not in (before, self.report.process) and before != self.report.process)
            # It is a new server, or it answers but is not the server it should be.
            conclusive = problem is not None or restarted
            if restarted:
                self._begin_anew()
        self._end_probe(problem, conclusive=conclusive)

    def _update_ranks(self) -> None:
        """Have as many ranks as the server says, which know of it what this knows."""
        count = self.report.ranks if self._is_split else 1
        if count == 1:
            self.ranks = ()
        elif len(self.ranks) != count:
            self.ranks = tuple(self._rank(number) for number in range(count))
        for rank in self.ranks:
            rank.config, rank.served, rank.report = self.config, self.served, self.report
            rank.api_key, rank.bootstrap_port = self.api_key, self.bootstrap_port

    def _rank(self, number: int) -> "Worker":
        rank = copy.copy(self)
        rank.rank, rank.ranks, rank._server = number, (), self
        rank.url = f"{self.url}@{number}"
        rank.load = WorkerLoad(self.load)
        rank.server_load = rank.kv_blocks = None
        return rank

    def _is_back(self) -> None:
        """A connection could be opened again: another process of the same server, until the next probe tells more."""
        self.health.back()
        self.report = replace(self.report, process=None)
        self._begin_anew()
        self._end_probe(None, conclusive=True)

    def _begin_anew(self) -> None:
        """Forget what was learnt of the process that served before."""
        self.health.begin_anew()
        for each in (self, *self.ranks):
            each.server_load = each.kv_blocks = None
        self.breaker.reset()

    def _end_probe(self, problem: str | None, *, conclusive: bool) -> None:
        if self.health.end_probe(problem, conclusive=conclusive):
            self.breaker.reset()
        self._update_ranks()

    def _problem_of(self, error: RouterError) -> str | None:
        """What a failed probe says of the worker; None where it only wants a key, which is left to clients."""
        wants_key = isinstance(error, UpstreamFailed) and error.upstream_status in KEY_REFUSED
        if not wants_key or not self._takes_client_keys or self.api_key is not None:
            return str(error)
        if self.role == "prefill" and self.bootstrap_port is None:
            return f"{error} Give its bootstrap port after its address too, or the key."
        notice = f"{error} Until then requests go there with their clients' keys, whatever their model."
        self.health.leave_key_to_clients(notice)
        self.served = ServedModels(() if self.config.model_id is None else (self.config.model_id,))
        # Of its batches and its events it said nothing else.
        self.report = WorkerReport(most_running=self.report.most_running, kv_event_source=self.report.kv_event_source)
        return None

    def _take_over(self, server_info: Any, path: str) -> str | None:
        """Take over what the worker said at `path` of itself; returns a sentence if that does not fit this worker."""
        if not isinstance(server_info, dict) or not isinstance(server_info.get("served_model_name"), str):
            return f"{self.url} does not say in {path} which model it serves."
        mode = server_info.get("disaggregation_mode", self.role)
        if ("plain" if mode in ("null", None) else mode) != self.role:
            return f"{self.url} was given as {self.role} server but runs in mode {mode!r}."
        if self.role == "prefill" and self.bootstrap_port is None:
            port = server_info.get("disaggregation_bootstrap_port")
            if not isinstance(port, int):
                return f"{self.url} does not say its bootstrap port; give it after the address."
            self.bootstrap_port = port
        listed = (server_info["served_model_name"], *server_info.get("more_models", ()))
        self.served = ServedModels.of(listed, self.config.model_id)
        self.report = WorkerReport.read(self.host, server_info)
        return None

    @property
    def capability(self) -> Capability:
        """What the worker can be used for.

        `overlay`: open prompts; `fallback`: segments are prefilled by ordinary requests; `sglang` and `openai`: whole
        requests only, also those of trees and early exit.
        """
        if self.role != "plain":
            return "overlay" if self.report.open_prompts is not None else "fallback"
        return "sglang" if self.report.sglang is not None else "openai"


@dataclass(frozen=True)
class Pair:
    """A prefill and a decode server of one model that serve requests together."""

    prefill: Worker
    decode: Worker

    @property
    def restarts(self) -> tuple[int, int]:
        """How often the two were restarted: if it stays the same, so do their processes, as far as that is known."""
        return self.prefill.health.restarts, self.decode.health.restarts
