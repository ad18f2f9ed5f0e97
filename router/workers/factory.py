"""Creates workers that share a router's health, breaker and API-key settings."""

from router.errors import BadRequest
from router.workers.circuit_breaker import CircuitBreaker, CircuitBreakerSettings
from router.workers.health import HealthSettings
from router.workers.worker import Role, Worker


class WorkerFactory:
    """Creates workers with the router's settings. A worker's own `api_key` replaces the router's."""

    def __init__(self, health: HealthSettings, breaker: CircuitBreakerSettings, api_key: str | None) -> None:
        self._health = health
        self._breaker = breaker
        self._api_key = api_key

    def make(self, url: str, role: Role, bootstrap_port: int | None = None, api_key: str | None = None) -> Worker:
        """Create a worker; raises `BadRequest` if `url` is not a valid worker address."""
        if "@" in url:
            raise BadRequest(f"{url!r} names a user; give an address like http://127.0.0.1:30001.")
        return Worker(
            url,
            role,
            bootstrap_port,
            needs_warm_up=not self._health.skip_warm_up and role != "plain",
            api_key=api_key or self._api_key,
            health=self._health,
            breaker=CircuitBreaker(self._breaker),
        )
