"""Parses the command line into settings. Flags have sglang-router's names; each package declares its own."""

import argparse
from pathlib import Path

from router.access.key_file import is_key
from router.cli.ignored_flags import add_ignored_flags
from router.cli.refused_flags import add_refused_flags
from router.cli.unknown_flags import unknown_words
from router.config.flags import add_flags, read_flags
from router.dispatch.retries import RetrySettings
from router.load_balancing import PolicySettings
from router.load_balancing.flags import add_policy_flags, cache_aware_settings
from router.moa.settings import RunSettings
from router.observability.tracing.settings import TraceSettings, collector_address
from router.server.admission import AdmissionSettings
from router.server.settings import RouterSettings, ServerSettings
from router.service_discovery.flags import DiscoveryFlags, discovery_settings
from router.tls.settings import TlsSettings
from router.worker_selection.overload import OverloadSettings
from router.worker_selection.pair_places import PairPlaceSettings
from router.workers.circuit_breaker import CircuitBreakerSettings
from router.workers.data_parallel import DataParallelSettings
from router.workers.health import HealthSettings
from router.workers.kv_event_monitor import KvEventSettings
from router.workers.load_monitor import LoadMonitorSettings
from router.workers.wedge_watch import WedgeSettings

SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie")  # a request's id stands in logs and spans


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all flags."""
    parser = argparse.ArgumentParser(
        prog="python -m router",
        description="A prefill/decode router for SGLang, with Mixture-of-Agents trees as models.",
        allow_abbrev=False,
    )
    workers = parser.add_argument_group("workers")
    workers.add_argument("--pd-disaggregation", action="store_true", help="route to prefill/decode pairs")
    workers.add_argument(
        "--prefill",
        nargs="+",
        action="append",
        metavar=("URL", "BOOTSTRAP_PORT"),
        default=[],
        help="a prefill server, and its bootstrap port unless the server shall be asked (repeatable)",
    )
    workers.add_argument("--decode", action="append", metavar="URL", default=[], help="a decode server (repeatable)")
    workers.add_argument(
        "--workers-file",
        type=Path,
        metavar="FILE",
        help="YAML or JSON file with `workers`, a list of what POST /workers takes; followed when it changes",
    )
    workers.add_argument("--trees", type=Path, help="YAML or JSON file with trees of agents, or a shipped tree's name")
    workers.add_argument("--worker-urls", nargs="*", metavar="URL", help="plain servers: any that speak OpenAI's API")
    workers.add_argument(
        "--enable-igw",
        action="store_true",
        help="take only the names of models that are served, as with --trees; else one model alone gets every name",
    )
    add_ignored_flags(workers)
    add_policy_flags(parser)
    add_flags(parser, PolicySettings, "parameters of policies")
    add_flags(parser, DataParallelSettings, "data parallelism")
    add_flags(parser, LoadMonitorSettings, "load of servers")
    add_flags(parser, KvEventSettings, "caches of servers")
    add_flags(parser, ServerSettings, "listening, answering, logging")
    add_flags(parser, AdmissionSettings, "limits")
    add_flags(parser, PairPlaceSettings, "places on pairs")
    add_flags(parser, OverloadSettings, "overloaded servers")
    add_flags(parser, WedgeSettings, "silent servers")
    add_flags(parser, RunSettings, "runs of trees")
    add_flags(parser, RetrySettings, "retries")
    add_flags(parser, CircuitBreakerSettings, "circuit breaker")
    add_flags(parser, HealthSettings, "health of workers")
    add_flags(parser, TraceSettings, "tracing")
    add_flags(parser, TlsSettings, "TLS")
    add_flags(parser, DiscoveryFlags, "workers found in Kubernetes")
    add_refused_flags(parser)
    return parser


def parse(arguments: list[str]) -> RouterSettings:
    """Parse command-line arguments into settings; exits with code 2 on a wrong one."""
    parser = build_parser()
    namespace, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(unknown_words(parser, unknown))
    if (namespace.prefill or namespace.decode) and not namespace.pd_disaggregation:
        parser.error("--prefill and --decode are for pairs; give --pd-disaggregation with them.")
    discovery = discovery_settings(parser, namespace)
    has_half_a_pair = bool(namespace.prefill) != bool(namespace.decode)
    elsewhere = namespace.worker_urls or namespace.workers_file or discovery is not None
    if has_half_a_pair and not elsewhere:
        parser.error(
            "give at least one --prefill URL BOOTSTRAP_PORT and one --decode URL; or neither, and add workers later by "
            "POST /workers."
        )
    server, limits = _server_settings(parser, namespace), read_flags(parser, namespace, AdmissionSettings)
    if limits.max_concurrent == 0:
        parser.error("--max-concurrent-requests 0 would let nothing in; give -1 for no limit, or a number from 1 on.")
    if 0 < limits.max_concurrent < server.workers:
        parser.error(
            f"--max-concurrent-requests {limits.max_concurrent} leaves nothing for some of {server.workers} --workers."
        )
    places = read_flags(parser, namespace, PairPlaceSettings)
    if places.prefills == 0 or 0 < places.prefills < server.workers:
        parser.error(
            f"--prefill-max-inflight-requests-per-worker {places.prefills} leaves nothing for some of {server.workers} "
            "--workers; give a number from theirs on, or -1 for no limit."
        )
    return RouterSettings(
        prefill=tuple(_prefill_address(parser, *each) for each in namespace.prefill),
        decode=tuple(namespace.decode),
        plain=tuple(namespace.worker_urls or ()),
        policy=namespace.policy,
        prefill_policy=namespace.prefill_policy,
        decode_policy=namespace.decode_policy,
        cache_aware=cache_aware_settings(parser, namespace),
        policies=_policy_settings(parser, namespace),
        data_parallel=read_flags(parser, namespace, DataParallelSettings),
        loads=read_flags(parser, namespace, LoadMonitorSettings),
        kv_events=read_flags(parser, namespace, KvEventSettings),
        workers_file=namespace.workers_file,
        trees=namespace.trees,
        igw=namespace.enable_igw,
        server=server,
        health=read_flags(parser, namespace, HealthSettings),
        retries=read_flags(parser, namespace, RetrySettings),
        breaker=read_flags(parser, namespace, CircuitBreakerSettings),
        limits=limits,
        places=places,
        overload=read_flags(parser, namespace, OverloadSettings),
        wedges=read_flags(parser, namespace, WedgeSettings),
        runs=read_flags(parser, namespace, RunSettings),
        trace=_trace_settings(parser, namespace),
        tls=read_flags(parser, namespace, TlsSettings),
        discovery=discovery,
    )


def _prefill_address(parser: argparse.ArgumentParser, url: str, *rest: str) -> tuple[str, int | None]:
    if len(rest) > 1:
        parser.error(
            f"--prefill {url} has {len(rest)} ports; give URL BOOTSTRAP_PORT, and --prefill again for another."
        )
    if not rest or rest[0].lower() == "none":
        return url, None
    port = rest[0]
    if not port.isdecimal() or not 0 < int(port) < 65536:
        parser.error(f"{port!r} is not the bootstrap port of {url}; give a number from 1 to 65535, or none.")
    return url, int(port)


def _trace_settings(parser: argparse.ArgumentParser, namespace: argparse.Namespace) -> TraceSettings:
    trace = read_flags(parser, namespace, TraceSettings)
    try:
        collector_address(trace.otlp_traces_endpoint)
    except ValueError as error:
        parser.error(str(error))
    return trace


def _policy_settings(parser: argparse.ArgumentParser, namespace: argparse.Namespace) -> PolicySettings:
    policies = read_flags(parser, namespace, PolicySettings)
    for name in policies.routing_key_headers:
        if not _is_header_name(name):
            parser.error(f"--routing-key-headers {name!r} is no header's name.")
    return policies


def _is_header_name(name: str) -> bool:
    return name.isascii() and name.replace("-", "").replace("_", "").isalnum()


def _server_settings(parser: argparse.ArgumentParser, namespace: argparse.Namespace) -> ServerSettings:
    server = read_flags(parser, namespace, ServerSettings)
    key = server.api_key
    if key is not None and not is_key(key):
        parser.error("--api-key is no key; give printable ASCII characters, without a space at either end.")
    for name in server.request_id_headers or ():
        if not _is_header_name(name):
            parser.error(f"--request-id-headers {name!r} is no header's name.")
        if name.lower() in SECRET_HEADERS:
            parser.error(f"--request-id-headers {name} would log what clients keep secret; name another header.")
    buckets = server.duration_buckets
    if buckets is not None and (not buckets or list(buckets) != sorted(set(buckets))):
        parser.error("--prometheus-duration-buckets must grow from each bound to the next.")
    return server
