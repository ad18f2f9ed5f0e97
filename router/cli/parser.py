"""The command line: sglang-router's flags, and a few of our own."""

import argparse
from pathlib import Path

from router.cli.refused_flags import refuse_flags
from router.config.flags import add_flags, read_flags
from router.dispatch.retries import RetrySettings
from router.load_balancing.flags import add_policy_flags, cache_aware_settings
from router.moa.settings import RunSettings
from router.observability.tracing.settings import TraceSettings, address_of
from router.server.admission import AdmissionSettings
from router.server.settings import RouterSettings, ServerSettings
from router.service_discovery.flags import DiscoveryFlags, discovery_settings
from router.workers.circuit_breaker import CircuitBreakerSettings
from router.workers.health import HealthSettings


def parser() -> argparse.ArgumentParser:
    """The parser of all flags."""
    made = argparse.ArgumentParser(
        prog="python -m router",
        description="A prefill/decode router for SGLang, with Mixture-of-Agents trees as models.",
        allow_abbrev=False,
    )
    pairs = made.add_argument_group("workers")
    pairs.add_argument("--pd-disaggregation", action="store_true", help="route to prefill/decode pairs")
    pairs.add_argument(
        "--prefill",
        nargs="+",
        action="append",
        metavar=("URL", "BOOTSTRAP_PORT"),
        default=[],
        help="a prefill server, and its bootstrap port unless the server shall be asked (repeatable)",
    )
    pairs.add_argument("--decode", action="append", metavar="URL", default=[], help="a decode server (repeatable)")
    pairs.add_argument("--trees", type=Path, help="YAML or JSON file with trees of agents, or a shipped tree's name")
    pairs.add_argument(
        "--worker-urls", nargs="*", default=[], metavar="URL", help="plain servers: any that speak OpenAI's API"
    )
    pairs.add_argument("--enable-igw", action="store_true", help="several models; always so here")
    pairs.add_argument("--backend", choices=["sglang"], default="sglang", help="always sglang here")
    add_policy_flags(made)
    add_flags(made, ServerSettings, "listening, answering, logging")
    add_flags(made, AdmissionSettings, "limits")
    add_flags(made, RunSettings, "runs of trees")
    add_flags(made, RetrySettings, "retries")
    add_flags(made, CircuitBreakerSettings, "circuit breaker")
    add_flags(made, HealthSettings, "health of workers")
    add_flags(made, TraceSettings, "tracing")
    add_flags(made, DiscoveryFlags, "workers found in Kubernetes")
    refuse_flags(made)
    return made


def parse(arguments: list[str]) -> RouterSettings:
    """Settings from command-line arguments; argparse leaves with code 2 on a wrong one."""
    made = parser()
    given = made.parse_args(arguments)
    if (given.prefill or given.decode) and not given.pd_disaggregation:
        made.error("--prefill and --decode are for pairs; give --pd-disaggregation with them.")
    discovery = discovery_settings(made, given)
    if not (given.prefill and given.decode) and not given.worker_urls and discovery is None:
        made.error(
            "give at least one --prefill URL BOOTSTRAP_PORT and one --decode URL, --worker-urls or --service-discovery."
        )
    server, limits = _server(made, given), read_flags(made, given, AdmissionSettings)
    if 0 < limits.max_concurrent < server.workers:
        made.error(
            f"--max-concurrent-requests {limits.max_concurrent} leaves nothing for some of {server.workers} --workers."
        )
    return RouterSettings(
        prefill=tuple(_prefill(made, *each) for each in given.prefill),
        decode=tuple(given.decode),
        plain=tuple(given.worker_urls),
        policy=given.policy,
        prefill_policy=given.prefill_policy,
        decode_policy=given.decode_policy,
        cache_aware=cache_aware_settings(made, given),
        trees=given.trees,
        server=server,
        health=read_flags(made, given, HealthSettings),
        retries=read_flags(made, given, RetrySettings),
        breaker=read_flags(made, given, CircuitBreakerSettings),
        limits=limits,
        runs=read_flags(made, given, RunSettings),
        trace=_trace(made, given),
        discovery=discovery,
    )


def _prefill(made: argparse.ArgumentParser, url: str, *rest: str) -> tuple[str, int | None]:
    if len(rest) > 1:
        made.error(f"--prefill {url} has {len(rest)} ports; give URL BOOTSTRAP_PORT, and --prefill again for another.")
    if not rest or rest[0].lower() == "none":
        return url, None
    port = rest[0]
    if not port.isdecimal() or not 0 < int(port) < 65536:
        made.error(f"{port!r} is not the bootstrap port of {url}; give a number from 1 to 65535, or none.")
    return url, int(port)


def _trace(made: argparse.ArgumentParser, given: argparse.Namespace) -> TraceSettings:
    trace = read_flags(made, given, TraceSettings)
    try:
        address_of(trace.otlp_traces_endpoint)
    except ValueError as error:
        made.error(str(error))
    return trace


def _server(made: argparse.ArgumentParser, given: argparse.Namespace) -> ServerSettings:
    server = read_flags(made, given, ServerSettings)
    key = server.api_key
    if key is not None and not (key and key.isascii() and key.isprintable()):
        made.error("--api-key is no key; give printable ASCII characters.")
    for name in server.request_id_headers or ():
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            made.error(f"--request-id-headers {name!r} is no header's name.")
    buckets = server.duration_buckets
    if buckets is not None and (not buckets or list(buckets) != sorted(set(buckets))):
        made.error("--prometheus-duration-buckets must grow from each bound to the next.")
    return server
