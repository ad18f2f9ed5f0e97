"""Leaves out servers that report a higher load than the settings allow."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from router.config.flags import flag
from router.errors import NoWorker
from router.workers.metrics import ROLE_LABELS
from router.workers.server_load import ServerLoad
from router.workers.worker import Role, Worker

PROTECTED_TOKEN_USAGE = 0.9  # with `--worker-overload-protection` alone


@dataclass(frozen=True)
class OverloadSettings:
    """From which reported load on a server counts as overloaded; by default none does."""

    waiting_requests: int | None = flag(
        "--worker-overload-waiting-requests",
        default=None,
        value_type=int,
        minimum=1,
        help_text="waiting requests from which on a server gets no others while there is a better one",
    )
    token_usage: float | None = flag(
        "--worker-overload-token-usage",
        default=None,
        value_type=float,
        exclusive_minimum=0,
        maximum=1,
        help_text="share of a server's KV in use from which on it gets no requests while there is a better one",
    )
    protection: bool = flag(
        "--worker-overload-protection",
        default=False,
        help_text=f"the same as --worker-overload-token-usage {PROTECTED_TOKEN_USAGE}, unless that is given",
    )
    shed: bool = flag(
        "--worker-overload-shed",
        default=False,
        help_text="answer 503 where all servers are overloaded, instead of choosing among them",
    )

    @property
    def most_token_usage(self) -> float | None:
        """The share of KV in use from which on a server is overloaded; None for none."""
        return PROTECTED_TOKEN_USAGE if self.token_usage is None and self.protection else self.token_usage

    @property
    def enabled(self) -> bool:
        """Whether a server can be overloaded at all; the servers are asked for their load then."""
        return self.waiting_requests is not None or self.most_token_usage is not None

    def reached(self, load: ServerLoad | None) -> bool:
        """Whether a server with this load is overloaded; one that does not report its load is not."""
        if load is None:
            return False
        usage = self.most_token_usage
        return (self.waiting_requests is not None and load.waiting >= self.waiting_requests) or (
            usage is not None and load.token_usage is not None and load.token_usage >= usage
        )


class OverloadGuard(Collector):
    """Leaves overloaded servers out; also a Prometheus collector that counts where all servers were overloaded.

    Args:
        settings: What counts as overloaded.
        interval_secs: Seconds between two reports, after which a client may try again.
    """

    def __init__(self, settings: OverloadSettings, interval_secs: float) -> None:
        self._settings = settings
        self._interval = interval_secs
        self._all_overloaded: Counter[Role] = Counter()

    def spare(self, workers: list[Worker], model: str) -> list[Worker]:
        """The workers, all of one role, that are not overloaded. If all are, all of them.

        Raises:
            NoWorker: All are, and the settings refuse requests then.
        """
        others = [worker for worker in workers if not self._settings.reached(worker.server_load)]
        if others:
            return others
        role = workers[0].role
        self._all_overloaded[role] += 1
        if self._settings.shed:
            raise NoWorker(
                f"every {role} server of the model {model!r} is overloaded; try again later.",
                retry_after=self._interval,
            )
        return workers

    def collect(self) -> Iterator[Metric]:
        """Choices where all servers of a role were overloaded."""
        name, text = (
            ("smg_worker_overload_shed", "Requests refused since all servers were overloaded")
            if self._settings.shed
            else ("smg_worker_overload_fallback", "Choices among overloaded servers, as all were")
        )
        family = CounterMetricFamily(name, text, labels=("stage",))
        for role, count in self._all_overloaded.items():
            family.add_metric((ROLE_LABELS[role],), count)
        yield family
