"""`python -m router`: parse the command line and serve, with one process or several."""

import gc
import resource
import socket
import sys
from collections.abc import Callable
from functools import partial

from router.access.key_ring import KeyRing
from router.access.start_warnings import log_start_warnings
from router.cli.parser import parse
from router.errors import RouterError
from router.observability.logs import configure_logging
from router.server.app import App
from router.server.connections.serve import serve
from router.server.processes.limit_shares import process_share
from router.server.processes.peers import Peers
from router.server.processes.process_manager import ProcessIdentity, ProcessManager, run_in_child
from router.server.processes.sockets import listen, listen_on_metrics_port
from router.server.settings import RouterSettings


def main() -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""
    settings = parse(sys.argv[1:])
    raise_open_files_limit()
    run = run_single_process if settings.server.workers == 1 else run_multi_process
    return exit_code_of(run, settings)


def raise_open_files_limit() -> None:
    """Raise the soft limit of open files, often 1024, to the hard limit: each request takes three connections."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def exit_code_of(run: Callable[[RouterSettings], int], settings: RouterSettings) -> int:
    """The exit code of `run`; 2 with the error on stderr when a setting cannot be used."""
    try:
        return run(settings)
    except RouterError as error:
        print(f"router: {error}", file=sys.stderr)
    except OSError as error:
        print(f"router: {error.strerror}; choose another.", file=sys.stderr)
    return 2


def run_single_process(settings: RouterSettings) -> int:
    """Serve from this process."""
    server = settings.server
    configure_logging(server.log_level, server.log_dir, redact_text=server.redact_text)
    app = App(settings)
    listeners = [listen(server.host, server.port), *listen_on_metrics_port(server)]
    log_start_warnings(server.host, server.port, server.api_key, server.api_keys_file)
    return serve(app, listeners, server)


def run_multi_process(settings: RouterSettings) -> int:
    """Serve from `--workers` child processes, which this process starts and watches."""
    server = settings.server
    configure_logging(server.log_level, server.log_dir, redact_text=server.redact_text)
    # The garbage collector writes to every object it visits; frozen objects stay shared between the processes.
    gc.collect()
    gc.freeze()
    # In a child, so that an error is printed once, and that this process has no threads when it forks.
    error_code = run_in_child(partial(exit_code_of, check_settings, settings))
    if error_code:
        return error_code
    # Read once, so that a process that is started again has the keys of the others, whatever became of the file.
    keys = KeyRing.load(server.api_key, server.api_keys_file)
    manager = ProcessManager(server, server.workers, partial(run_child_process, settings, keys))
    log_start_warnings(server.host, server.port, server.api_key, server.api_keys_file)
    return manager.run()


def check_settings(settings: RouterSettings) -> int:
    """Return 0 when an app can be built from the settings; raises what `App` raises."""
    App(settings)
    return 0


def run_child_process(
    settings: RouterSettings, keys: KeyRing, identity: ProcessIdentity, listeners: list[socket.socket]
) -> int:
    """Serve as one of several processes, with this process's share of the limits."""
    server = settings.server
    configure_logging(server.log_level, server.log_dir, f"router-{identity.index}", redact_text=server.redact_text)
    peers = Peers(identity.index, identity.paths, restarted=identity.restarted)
    app = App(process_share(settings, identity.index, server.workers), peers=peers, keys=keys)
    return serve(app, listeners, server)


if __name__ == "__main__":
    raise SystemExit(main())
