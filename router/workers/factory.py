"""Creates workers that share a router's health, breaker, API-key and TLS settings."""

from dataclasses import replace

from router.errors import BadRequest
from router.tls.contexts import WorkerTls
from router.workers.circuit_breaker import CircuitBreaker, CircuitBreakerSettings
from router.workers.health import HealthSettings
from router.workers.worker import Role, Worker
from router.workers.worker_config import WorkerConfig


class WorkerFactory:
    """Creates workers with the router's settings. A worker's own `api_key` replaces the router's."""

    def __init__(
        self,
        health: HealthSettings,
        breaker: CircuitBreakerSettings,
        api_key: str | None,
        tls: WorkerTls | None = None,
        *,
        takes_client_keys: bool = True,
        splits_ranks: bool = False,
    ) -> None:
        self._health = health
        self._breaker = breaker
        self._api_key = api_key
        self._tls = tls or WorkerTls()
        self._takes_client_keys = takes_client_keys
        self._splits_ranks = splits_ranks

    def make(self, url: str, role: Role, bootstrap_port: int | None = None, api_key: str | None = None) -> Worker:
        """Create a worker; raises `BadRequest` if `url` is not a valid worker address."""
        return self.make_configured(url, role, WorkerConfig(bootstrap_port, api_key))

    def make_configured(self, url: str, role: Role, config: WorkerConfig) -> Worker:
        """`make` with all that an operator may say about a worker."""
        if "@" in url:
            raise BadRequest(f"{url!r} names a user; give an address like http://127.0.0.1:30001.")
        worker = Worker(
            url,
            role,
            needs_warm_up=not self._health.skip_warm_up and role != "plain",
            tls=self._tls,
            is_split=self._splits_ranks,
            takes_client_keys=self._takes_client_keys,
            breaker=CircuitBreaker(self._breaker),
        )
        self.configure(worker, config)
        return worker

    def configure(self, worker: Worker, config: WorkerConfig) -> None:
        """Change a worker's settings; requests under way go on as they began."""
        worker.configure(config, config.api_key or self._api_key, replace(self._health, **config.health))
