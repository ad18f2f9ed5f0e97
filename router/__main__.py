"""`python -m router`: parse the command line and serve."""

import gc
import resource
import socket
import sys
from collections.abc import Callable
from functools import partial

from router.cli.parser import parse
from router.errors import RouterError
from router.observability.logs import configure_logging
from router.server.app import App
from router.server.connections.serve import serve
from router.server.processes.parent import ProcessIdentity, ProcessManager, run_in_child
from router.server.processes.peers import Peers
from router.server.processes.shares import process_share
from router.server.processes.sockets import listen, listen_on_metrics_port
from router.server.settings import RouterSettings


def open_more_files() -> None:
    """Raise the limit of open files as far as it goes: each request takes three connections, often of 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""
    settings = parse(sys.argv[1:])
    open_more_files()
    return _saying(_alone if settings.server.workers == 1 else _together, settings)


def _saying(work: Callable[[RouterSettings], int], settings: RouterSettings) -> int:
    """Do it, or say in a sentence why not."""
    try:
        return work(settings)
    except RouterError as error:
        print(f"router: {error}", file=sys.stderr)
    except OSError as error:
        print(f"router: {error.strerror}; choose another.", file=sys.stderr)
    return 2


def _alone(settings: RouterSettings) -> int:
    server = settings.server
    configure_logging(server.log_level, server.log_dir)
    app = App(settings)
    listeners = [listen(server.host, server.port), *listen_on_metrics_port(server)]
    return serve(app, listeners, server)


def _together(settings: RouterSettings) -> int:
    server = settings.server
    configure_logging(server.log_level, server.log_dir)
    # The collector writes into each object that it looks at: what was imported would be copied for every process.
    gc.collect()
    gc.freeze()
    # What is wrong is said once and not by every process; and this one must have no threads when it forks.
    wrong = run_in_child(partial(_saying, _try, settings))
    return wrong or ProcessManager(server, server.workers, partial(_member, settings)).run()


def _member(settings: RouterSettings, place: ProcessIdentity, listeners: list[socket.socket]) -> int:
    server = settings.server
    configure_logging(server.log_level, server.log_dir, f"router-{place.index}")
    peers = Peers(place.index, place.paths, again=place.again)
    app = App(process_share(settings, place.index, server.workers), peers=peers)
    return serve(app, listeners, server)


def _try(settings: RouterSettings) -> int:
    """Whether an app can be made of the settings."""
    App(settings)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
