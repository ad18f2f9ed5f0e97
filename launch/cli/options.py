"""The options of `python -m launch.pd`."""

import argparse
from pathlib import Path

from launch.machine.ports import FIRST_SERVER_PORT, LOOPBACK


def parse_arguments(arguments: list[str], description: str | None) -> argparse.Namespace:
    """The command line's options; argparse exits with code 2 when they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.pd", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    models = parser.add_mutually_exclusive_group()
    models.add_argument("--hetero", type=int, metavar="N", help="serve the config's first N models")
    models.add_argument("--model", metavar="PATH", help="serve one model: a folder, a hub name or builtin:smollm2")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML or JSON file, or a shipped config's name")
    parser.add_argument("--ask", metavar="QUESTION", help="run the tree once on this text or JSON list of token ids")
    parser.add_argument("--dry-run", action="store_true", help="print servers, memory, ports and commands, then stop")
    parser.add_argument("--port", type=int, help="the router's port (default: a free one from 30000)")
    parser.add_argument(
        "--server-host", default=LOOPBACK, metavar="ADDRESS", help=f"where the servers listen (default: {LOOPBACK})"
    )
    parser.add_argument(
        "--server-ports",
        type=int,
        default=FIRST_SERVER_PORT,
        metavar="FIRST",
        help=f"the servers take free ports from this one up (default: {FIRST_SERVER_PORT})",
    )
    parser.add_argument("--attention-backend", help="over the config's attention_backend")
    parser.add_argument("--sampling-backend", help="over the config's sampling_backend")
    parser.add_argument(
        "--mps",
        action=argparse.BooleanOptionalAction,
        help="whether servers use a shared GPU at once; over the config",
    )
    parser.add_argument("--inventory", type=Path, metavar="FILE", help="plan for the machine this JSON file describes")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="folder for logs (default: a new temporary one)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="with --ask: write times and memory as JSON")
    parser.add_argument("--spawn", action="store_true", help="on a CPU: start fresh processes instead of forking")
    options = parser.parse_args(arguments)
    if options.model is not None and options.config is not None:
        parser.error("give --model or --config, not both; a config names its models itself.")
    if options.report is not None and options.ask is None:
        parser.error("--report describes one run; it goes with --ask only.")
    if options.inventory is not None and not options.dry_run:
        parser.error("--inventory describes another machine; it goes with --dry-run only.")
    for flag, port in (("--port", options.port), ("--server-ports", options.server_ports)):
        if port is not None and not 0 < port < 65536:
            parser.error(f"{flag} {port} is no port; give a number from 1 to 65535.")
    return options
