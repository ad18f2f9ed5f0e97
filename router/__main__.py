"""`python -m router`: parse the command line and serve."""

import argparse
import asyncio
import logging
import math
import socket
import sys
from pathlib import Path

import uvicorn
import uvloop

from router.app import App
from router.errors import RouterError
from router.exit.judge import BUILTIN
from router.policies.flags import add_policy_flags, cache_aware_settings
from router.settings import Settings


def parse(arguments: list[str]) -> Settings:
    """Settings from command-line arguments; argparse leaves with code 2 on a wrong one."""
    parser = argparse.ArgumentParser(prog="python -m router", description=__doc__)
    parser.add_argument("--pd-disaggregation", action="store_true", help="route to prefill/decode pairs")
    parser.add_argument(
        "--prefill",
        nargs=2,
        action="append",
        metavar=("URL", "BOOTSTRAP_PORT"),
        default=[],
        help="a prefill server and its bootstrap port (repeatable)",
    )
    parser.add_argument("--decode", action="append", metavar="URL", default=[], help="a decode server (repeatable)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=30000, help="port to listen on (%(default)s)")
    add_policy_flags(parser)
    parser.add_argument("--max-payload-size", type=int, default=512 * 1024 * 1024, help="largest body, bytes")
    parser.add_argument("--worker-probe-interval", type=float, default=5.0, help="seconds between probes")
    parser.add_argument("--worker-urls", nargs="*", default=[], metavar="URL", help="plain OpenAI-compatible servers")
    parser.add_argument("--trees", type=Path, help="YAML or JSON file with trees of agents, or a shipped tree's name")
    parser.add_argument("--embedding-model", default=BUILTIN, help="what early exit embeds answers with (%(default)s)")
    parser.add_argument("--max-runs", type=int, default=256, help="most runs of trees at once (%(default)s)")
    parser.add_argument("--max-runs-per-client", type=int, default=64, help="the same of one client (%(default)s)")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    given = parser.parse_args(arguments)
    if not given.pd_disaggregation:
        parser.error("only P/D routing is built so far; give --pd-disaggregation.")
    if not (given.prefill and given.decode) and not given.worker_urls:
        parser.error("give at least one --prefill URL BOOTSTRAP_PORT and one --decode URL, or --worker-urls.")
    for flag in ("max_runs", "max_runs_per_client"):
        if getattr(given, flag) < 1:
            parser.error(f"--{flag.replace('_', '-')} {getattr(given, flag)} lets no run begin; give at least 1.")
    for url, port in given.prefill:
        if not port.isdecimal() or not 0 < int(port) < 65536:
            parser.error(f"{port!r} is not the bootstrap port of {url}; give a number from 1 to 65535.")
    if not 0 <= given.port < 65536:
        parser.error(f"--port {given.port} is no port; give a number from 1 to 65535, or 0 for a free one.")
    if given.max_payload_size < 1:
        parser.error(f"--max-payload-size {given.max_payload_size} lets nothing through; give at least 1.")
    if not 0 < given.worker_probe_interval < math.inf:
        parser.error(f"--worker-probe-interval {given.worker_probe_interval:g} is no time; give seconds above 0.")
    return Settings(
        prefill=tuple((url, int(port)) for url, port in given.prefill),
        decode=tuple(given.decode),
        host=given.host,
        port=given.port,
        policy=given.policy,
        prefill_policy=given.prefill_policy,
        decode_policy=given.decode_policy,
        cache_aware=cache_aware_settings(parser, given),
        max_payload_bytes=given.max_payload_size,
        probe_interval=given.worker_probe_interval,
        plain=tuple(given.worker_urls),
        trees=given.trees,
        embedding_model=given.embedding_model,
        max_runs=given.max_runs,
        max_runs_per_client=given.max_runs_per_client,
        log_level=given.log_level,
    )


def listen(settings: Settings) -> socket.socket:
    """The listening socket; raises `OSError` when the port is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((settings.host, settings.port))
    # At once: until it listens, a second router on the port would not notice this one.
    listener.listen(2048)
    return listener


def main() -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""
    settings = parse(sys.argv[1:])
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    try:
        app = App(settings)
        listener = listen(settings)
    except RouterError as error:
        print(f"router: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"router: cannot listen on {settings.host}:{settings.port} ({error.strerror}); choose another --port.",
            file=sys.stderr,
        )
        return 2
    config = uvicorn.Config(
        app,
        http="httptools",
        loop="uvloop",
        lifespan="on",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=10,
    )
    server = uvicorn.Server(config)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve(sockets=[listener]))
    except KeyboardInterrupt:  # uvicorn raises the signal again after its orderly stop
        return 130
    return 0 if server.started else 1


if __name__ == "__main__":
    raise SystemExit(main())
