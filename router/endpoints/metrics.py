"""Metrics: `/metrics`."""

from prometheus_client import CollectorRegistry

from router.http.client_request import ClientRequest
from router.observability.prometheus import CONTENT_TYPE, metrics_text


class MetricsEndpoint:
    """The metrics of one collector registry."""

    def __init__(self, collectors: CollectorRegistry) -> None:
        self._collectors = collectors

    async def metrics(self, request: ClientRequest) -> None:
        """All metrics in Prometheus's text format."""
        await request.send_response(200, metrics_text(self._collectors), [(b"content-type", CONTENT_TYPE)])
