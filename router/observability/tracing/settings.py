"""The flags of tracing: whether spans are sent, and to which collector."""

import re
from dataclasses import dataclass

from router.config.flags import flag

_ENDPOINT = re.compile(r"(?:http://)?((?:[\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5}))", re.ASCII)


@dataclass(frozen=True)
class TraceSettings:
    """The flags of tracing."""

    enable_trace: bool = flag("--enable-trace", default=False, help_text="send spans to an OpenTelemetry collector")
    otlp_traces_endpoint: str = flag(
        "--otlp-traces-endpoint",
        default="localhost:4317",
        metavar="HOST:PORT",
        help_text="the collector, which takes OTLP over gRPC without TLS",
    )


def collector_address(endpoint: str) -> str:
    """The HOST:PORT of an endpoint, which may start with `http://`; raises `ValueError` for anything else."""
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None or not 0 < int(match[2]) < 65536:
        raise ValueError(f"--otlp-traces-endpoint {endpoint!r} is no address; give HOST:PORT, like localhost:4317.")
    return match[1]
