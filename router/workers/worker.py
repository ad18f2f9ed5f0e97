"""A worker: one inference server, its state, and the probe that updates it.

A model is served by *pairs*, in which any prefill server works with any decode server of the model, or by *plain*
servers, which are any that speak OpenAI's API.
"""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from router.errors import ConnectFailed, RouterError, UpstreamFailed
from router.http_client.origin import Origin
from router.tls.contexts import WorkerTls
from router.workers.circuit_breaker import CircuitBreaker
from router.workers.health import HealthSettings, HealthTracker
from router.workers.kv_blocks import KvBlocks
from router.workers.kv_event_messages import EventSource, event_source
from router.workers.priority_rule import PriorityRule
from router.workers.server_load import ServerLoad, most_running
from router.workers.server_probe import KEY_REFUSED, ServerProbe
from router.workers.worker_config import WorkerConfig

Role = Literal["prefill", "decode", "plain"]
Capability = Literal["overlay", "fallback", "sglang", "openai"]
RECOVERY_SECONDS = 600.0  # how long a worker that was usable is expected back
PAIR_ROLES: tuple[Role, Role] = ("prefill", "decode")
UNKNOWN_MODEL = "unknown"  # in metrics and logs: the name is a client's, and the worker tells none


@dataclass(eq=False)
class Worker:
    """One inference server.

    Attributes:
        url: Its address, normalised to `http://host:port`, or with `https`.
        role: Its role in a pair, or `plain`.
        bootstrap_port: The port of a prefill server's bootstrap server; None for other roles.
        model: The served model name, of several the first; None before the first successful probe, and where only
            clients' keys open it.
        more_models: The other models of a plain server.
        info: The fields of its `/server_info` that the router uses.
        healthy: Whether its probes say that it is well.
        problem: One sentence on why the worker is not usable, or on what is wrong with it nevertheless; None if there
            is nothing to say.
        load: Requests in flight through this router. On a prefill server a request ends with its prefill.
        sent: Requests that the router sent to it for an answer, by model.
        places_taken: Answers that a decode server owes to them: a batch counts as its prompts.
        most_running: As many requests as the server runs at once, all ranks together; None where it does not say that.
        on_release: Called when a request on it has ended; None while nobody waits for that.
        expected_tokens: Tokens that clients expect of the answers in flight, as far as they said so.
        server_load: What the server says of its load; None if it is not asked, or does not say it now.
        kv_blocks: The blocks in its KV cache, as its events tell; None if they are not followed.
        kv_event_source: Where it publishes its KV events; None if it does not, a sentence if they cannot be used.
        draining: Whether it is being removed: it gets no new requests, and those in flight may end.
        needs_warm_up: Whether it gets requests only after a pair with it has generated something.
        warmed_up: Whether a pair with it has generated something since it became healthy.
        api_key: The API key sent to it, or None.
        away: Whether the last connection to it could not be opened: its process has ended, or has just begun.
        wedged: One sentence on how it takes requests and does not work; None as long as it does.
        heard: Whether a byte of a response to a client came from it since that was last looked at.
        suspected: Whether a connection to it broke since the last probe.
        wants_key: Whether it tells nothing of itself, since it wants an API key and the router has none for it. It may
            get requests then, each with its client's key.
        takes_client_keys: Whether clients' keys reach it: a router with keys of its own sends none on.
        last_usable: When it was last usable (`time.monotonic`); None if it never was.
        tls: The certificates for an address with `https`; None for the system's.
        health: How it is probed.
        breaker: Its circuit breaker.
        config: What an operator said about it.
    """

    url: str
    role: Role
    bootstrap_port: int | None = None
    model: str | None = None
    more_models: tuple[str, ...] = ()
    info: dict[str, Any] = field(default_factory=dict)
    healthy: bool = False
    problem: str | None = None
    load: int = 0
    sent: Counter[str] = field(default_factory=Counter, repr=False)
    places_taken: int = 0
    most_running: int | None = None
    on_release: Callable[[], None] | None = None
    expected_tokens: int = 0
    server_load: ServerLoad | None = None
    kv_blocks: KvBlocks | None = field(default=None, repr=False)
    kv_event_source: EventSource | str | None = None
    draining: bool = False
    needs_warm_up: bool = False
    warmed_up: bool = False
    away: bool = False
    wedged: str | None = None
    heard: bool = False
    suspected: bool = False
    wants_key: bool = False
    takes_client_keys: bool = True
    last_usable: float | None = None
    api_key: str | None = field(default=None, repr=False)
    tls: WorkerTls | None = field(default=None, repr=False)
    health: HealthSettings = field(default_factory=HealthSettings)
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    config: WorkerConfig = field(default_factory=WorkerConfig)

    def __post_init__(self) -> None:
        self.origin = Origin(self.url, tls=self.tls)
        self._send_key()
        self.url = self.origin.url
        # The same id in every process of a router, and after a restart.
        self.id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.role} {self.url}"))
        self.health_tracker = HealthTracker(self.health, ever_healthy=self.healthy)
        self.process: str | None = None
        self.restarts = 0  # of its process, as far as they were noticed
        self._own_model: str | None = None  # what the server calls the one model that the operator named
        self._listed_models: tuple[str, ...] = ()  # by the server, at the last probe
        self._health_notice: str | None = None  # from the last health check
        self._key_notice: str | None = None  # from the last probe

    def configure(self, config: WorkerConfig, api_key: str | None, health: HealthSettings) -> None:
        """Change its settings.

        Args:
            config: What an operator says about it.
            api_key: The API key sent to it, its own or the router's, or None.
            health: How it is probed.
        """
        self.config, self.api_key, self.health = config, api_key, health
        self.health_tracker.settings = health
        if config.bootstrap_port is not None:
            self.bootstrap_port = config.bootstrap_port
        if self._listed_models:
            self._apply_models(self._listed_models)
        elif config.model_id is not None:
            self.model, self.more_models = config.model_id, ()
        self._send_key()

    def _send_key(self) -> None:
        """Send the API key, if there is one, with every request from now on."""
        self.origin.set_default_header("authorization", None if self.api_key is None else f"Bearer {self.api_key}")

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
        """The models it serves, each once; empty before the first successful probe."""
        return () if self.model is None else (self.model, *self.more_models)

    def count_request(self, model: str | None) -> None:
        """Count a request that is sent to it; a name that it is not known to serve must not become a metric's label."""
        self.sent[model if model is not None and model in self.models else UNKNOWN_MODEL] += 1

    @property
    def serves_any(self) -> bool:
        """Whether it is asked for any model, since which ones it serves is not to be known without a client's key."""
        return self.wants_key and self.model is None

    def own_name_of(self, model: str) -> str:
        """What the server itself calls one of its models: an operator may have named it otherwise."""
        return self._own_model or model

    @property
    def usable(self) -> bool:
        """Whether it may get requests, apart from its circuit breaker."""
        warm = self.warmed_up or not self.needs_warm_up or self.wants_key
        return warm and self.healthy and not self.away and not self.draining and self.wedged is None

    @property
    def recovering(self) -> bool:
        """Whether it was usable within the last `RECOVERY_SECONDS`, and may soon be again: perhaps it restarts."""
        if self.draining or self.last_usable is None or self.usable:
            return False
        return time.monotonic() < self.last_usable + RECOVERY_SECONDS

    @property
    def untried(self) -> bool:
        """Whether it answers again after it was usable before, and has generated nothing since."""
        answers = self.healthy and not self.away and not self.draining
        return answers and not self.warmed_up and self.last_usable is not None

    @property
    def needs_attention(self) -> bool:
        """Whether it should be probed now and not at the next interval."""
        return self.suspected or self.recovering or (self.breaker.state != "closed" and not self.draining)

    def connection_failed(self, error: RouterError) -> None:
        """Note that a request found no connection to the worker, or lost it."""
        if self.usable:
            self.last_usable = time.monotonic()
        self.suspected = True
        self.away = self.away or isinstance(error, ConnectFailed)

    def set_wedged(self, problem: str) -> None:
        """Note that it takes requests and does not work."""
        if self.usable:
            self.last_usable = time.monotonic()
        self.wedged = self.problem = problem

    async def probe(self) -> None:
        """Ask the worker what it serves, and call its health endpoint when that is due.

        Sets `model`, `more_models`, `info`, `healthy` and `problem`. A worker that fails raises no error here. One of a
        pair that is back is only asked for its model's name, so that its warm-up begins at once; if that is the same,
        the rest is asked by the next probe.
        """
        self.suspected = False
        if self.health_tracker.ever_healthy and self.health.disable_checks and not self.away:
            return
        if self.usable:
            self.last_usable = time.monotonic()
        conclusive = False
        probe = ServerProbe(
            self.origin,
            plain=self.role == "plain",
            was_sglang=self.info.get("sglang") is not None,
            has_key=self.api_key is not None,
        )
        timeout = self.health.timeout_secs
        try:
            async with asyncio.timeout(timeout):
                may_be_back = self.away and self.health_tracker.ever_healthy and self.role != "plain"
                if may_be_back and await probe.knock() in self._listed_models[:1]:
                    self._is_back()
                    return
                if self.health_tracker.health_check_due():
                    self._health_notice = await probe.check_health(self.health.endpoint)
                    self.health_tracker.health_check_done()
                server_info = await probe.server_info()
        except TimeoutError:
            problem: str | None = f"{self.url} did not answer {probe.path} within {timeout:g} s."
        except RouterError as error:
            wants_key = isinstance(error, UpstreamFailed) and error.upstream_status in KEY_REFUSED
            self.away = isinstance(error, ConnectFailed)
            if wants_key and self.takes_client_keys and self.api_key is None:
                problem = self._ask_for_key(error)
            else:
                problem = str(error)
        else:
            self.wants_key, self._key_notice = False, None
            was_away, self.away = self.away, False
            process = self.process
            problem = self._apply_server_info(server_info, probe.path)
            restarted = was_away or (None not in (process, self.process) and process != self.process)
            # It is a new server, or it answers but is not the server it should be.
            conclusive = problem is not None or restarted
            if restarted:
                self._begin_anew()
        self._record_probe(problem, conclusive)

    def _is_back(self) -> None:
        """A connection could be opened again: another process of the same server, until the next probe tells more."""
        self.away, self.suspected = False, True
        self.process = None
        self._begin_anew()
        self._record_probe(None, conclusive=True)

    def _begin_anew(self) -> None:
        """Forget what was learnt of the process that served before."""
        self.restarts += 1
        self.warmed_up = False
        self.server_load = self.kv_blocks = self.wedged = None
        self.breaker.reset()

    def _record_probe(self, problem: str | None, conclusive: bool) -> None:
        """Update health, breaker and warm-up state after a probe; `problem` is None if it succeeded."""
        was_healthy = self.healthy
        self.healthy = self.health_tracker.record(success=problem is None, conclusive=conclusive)
        self.problem = problem or self.wedged or self._key_notice or self._health_notice
        if self.healthy and not was_healthy:
            self.breaker.reset()
        if not self.healthy:
            self.warmed_up = False
            self.problem = problem or f"{self.url} is back; {self.health_tracker.progress} looks at it were good."

    def _ask_for_key(self, error: RouterError) -> str | None:
        """Leave the key to clients; returns a sentence if the worker cannot be used without what it would tell."""
        if self.role == "prefill" and self.bootstrap_port is None:
            return f"{error} Give its bootstrap port after its address too, or the key."
        self.wants_key = True
        self.model, self.more_models, self.info, self.process = self.config.model_id, (), {}, None
        self._own_model, self._listed_models = None, ()
        self._key_notice = f"{error} Until then requests go there with their clients' keys, whatever their model."
        return None

    def _apply_server_info(self, server_info: Any, path: str) -> str | None:
        """Store what the worker said at `path` about itself; returns a sentence if that does not fit this worker."""
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
        self._apply_models((server_info["served_model_name"], *server_info.get("more_models", ())))
        states = server_info.get("internal_states")
        state = states[0] if isinstance(states, list) and states and isinstance(states[0], dict) else {}
        self.most_running = most_running(states)
        self.info = {
            "sglang": server_info.get("version"),
            "disaggregation_mode": server_info.get("disaggregation_mode"),
            "context_length": server_info.get("context_length"),
            "skip_tokenizer_init": server_info.get("skip_tokenizer_init"),
            "completion_template": server_info.get("completion_template"),
            "overlay": state.get("sglang_ext"),
            "priority": PriorityRule.read(server_info),
        }
        self.process = _process_id(server_info, state)
        self.kv_event_source = event_source(self.host, server_info)
        return None

    def _apply_models(self, names: tuple[str, ...]) -> None:
        """Store the models that the worker lists, or the one that the operator named instead."""
        self._listed_models = names
        named = self.config.model_id
        self._own_model = None if named is None or named in names else names[0]
        self.model, *more = names if named is None else (named,)
        self.more_models = tuple(more)

    @property
    def overlay(self) -> bool:
        """Whether the worker runs this project's overlay."""
        return bool(self.info.get("overlay"))

    @property
    def tokenizer(self) -> str | None:
        """The fingerprint of its tokenizer; None if it has none, or has not the overlay, which tells it."""
        fingerprint = (self.info.get("overlay") or {}).get("tokenizer")
        return fingerprint if isinstance(fingerprint, str) else None

    @property
    def open_prompts(self) -> dict[str, Any] | None:
        """The overlay's report on open prompts; None if the worker does not support them."""
        report = (self.info.get("overlay") or {}).get("open_prompts")
        return report if isinstance(report, dict) and "ttl" in report else None

    @property
    def priority_rule(self) -> PriorityRule | None:
        """How it schedules by priority; None where it does not say that it does."""
        rule = self.info.get("priority")
        return rule if isinstance(rule, PriorityRule) else None

    @property
    def capability(self) -> Capability:
        """What the worker can be used for.

        `overlay`: open prompts; `fallback`: segments are prefilled by ordinary requests; `sglang` and `openai`: whole
        requests only, also those of trees and early exit.
        """
        if self.role != "plain":
            return "overlay" if self.open_prompts is not None else "fallback"
        return "sglang" if self.info.get("sglang") is not None else "openai"


def _process_id(server_info: dict[str, Any], state: dict[str, Any]) -> str | None:
    """What differs after a restart: SGLang draws a seed at each start unless it is given one, the overlay says more."""
    overlay = state.get("sglang_ext")
    process = overlay.get("started") if isinstance(overlay, dict) else None
    seed = server_info.get("random_seed")
    return None if process is None and seed is None else f"{process} {seed}"


@dataclass(frozen=True)
class Pair:
    """A prefill and a decode server of one model that serve requests together."""

    prefill: Worker
    decode: Worker

    @property
    def restarts(self) -> tuple[int, int]:
        """How often the two were restarted: if it stays the same, so do their processes, as far as that is known."""
        return self.prefill.restarts, self.decode.restarts
