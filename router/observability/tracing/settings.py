"""Whether spans are sent, and where to."""

import re
from dataclasses import dataclass

from router.config.flags import flag

ENDPOINT = re.compile(r"(?:http://)?((?:[\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5}))", re.ASCII)


@dataclass(frozen=True)
class TraceSettings:
    """Tracing."""

    enable_trace: bool = flag("--enable-trace", default=False, help_text="send spans to an OpenTelemetry collector")
    otlp_traces_endpoint: str = flag(
        "--otlp-traces-endpoint",
        default="localhost:4317",
        metavar="HOST:PORT",
        help_text="the collector, which takes OTLP over gRPC without TLS",
    )


def address_of(endpoint: str) -> str:
    """Host and port of an endpoint, which may begin with `http://`; raises `ValueError` when it is something else."""
    found = ENDPOINT.fullmatch(endpoint)
    if found is None or not 0 < int(found[2]) < 65536:
        raise ValueError(f"--otlp-traces-endpoint {endpoint!r} is no address; give HOST:PORT, like localhost:4317.")
    return found[1]
