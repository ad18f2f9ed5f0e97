"""Serves as the settings say, with one process or several."""

import gc
import logging
import resource
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from router.access.key_ring import KeyRing
from router.access.start_warnings import log_start_warnings
from router.errors import RouterError
from router.observability.logs import configure_logging
from router.server.app import App
from router.server.components import build_components
from router.server.connections.serve import serve
from router.server.processes.default_count import available_cores, default_process_count
from router.server.processes.limit_shares import process_share
from router.server.processes.peers import Peers
from router.server.processes.process_manager import NoPrivateSockets, ProcessIdentity, ProcessManager, run_in_child
from router.server.processes.sockets import listen, listen_on_other_ports
from router.server.settings import RouterSettings, ServerSettings
from router.tls.contexts import WorkerTls, client_context

logger = logging.getLogger(__name__)


def start(settings: RouterSettings) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""
    _raise_open_files_limit()
    count = settings.server.workers or default_process_count(settings, available_cores())
    serve_all = _serve_in_this_process if count == 1 else partial(_serve_in_children, count)
    return _exit_code_of(serve_all, settings)


def _raise_open_files_limit() -> None:
    """Raise the soft limit of open files, often 1024, to the hard limit: each request takes three connections."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def _exit_code_of(run: Callable[[RouterSettings], int], settings: RouterSettings) -> int:
    """The exit code of `run`; 2 with the error on stderr when a setting cannot be used."""
    try:
        return run(settings)
    except RouterError as error:
        print(f"router: {error}", file=sys.stderr)
    except OSError as error:
        print(f"router: {error.strerror}; choose another.", file=sys.stderr)
    return 2


def _configure_logging(server: ServerSettings, name: str = "router") -> None:
    """Log as the flags say, into files with this name."""
    configure_logging(server.log_level, server.log_dir, name, redact_text=server.redact_text, as_json=server.log_json)


def _serve_in_this_process(settings: RouterSettings) -> int:
    """Serve from this process."""
    server = settings.server
    _configure_logging(server)
    client_tls = client_context(settings.tls)
    app = App(build_components(settings))
    listeners = [listen(server.host, server.port), *listen_on_other_ports(server)]
    log_start_warnings(server.host, server.port, server.api_key, server.api_keys_file)
    return serve(app, listeners, client_tls)


def _serve_in_children(count: int, settings: RouterSettings) -> int:
    """Serve from child processes, which this process starts and watches."""
    server = settings.server
    _configure_logging(server)
    # The garbage collector writes to every object it visits; frozen objects stay shared between the processes.
    gc.collect()
    gc.freeze()
    # In a child, so that an error is printed once, and that this process has no threads when it forks.
    error_code = run_in_child(partial(_exit_code_of, _check_settings, settings))
    if error_code:
        return error_code
    files = ReadFiles.read(settings)
    manager = None
    try:
        manager = ProcessManager(server, count, partial(_serve_as_child, settings, files))
    except NoPrivateSockets as error:
        if server.workers:
            raise
        logger.warning("%s; so there is one process alone.", error.strerror)
    if manager is None:  # not in the handler, where every later error would quote that one
        return _serve_in_this_process(settings)
    log_start_warnings(server.host, server.port, server.api_key, server.api_keys_file)
    return manager.run()


def _check_settings(settings: RouterSettings) -> int:
    """Return 0 when an app can be built from the settings; raises what `build_components` and `App` raise."""
    client_context(settings.tls)
    App(build_components(settings))
    return 0


@dataclass(frozen=True)
class ReadFiles:
    """What was read from files, once for all processes.

    A process that is started again has what the others have, whatever became of the files.

    Attributes:
        keys: The API keys.
        worker_tls: The certificates towards workers.
        client_tls: That for clients, or None.
    """

    keys: KeyRing
    worker_tls: WorkerTls
    client_tls: ssl.SSLContext | None

    @classmethod
    def read(cls, settings: RouterSettings) -> "ReadFiles":
        """Read the files; raises `RouterError` for one that cannot be used."""
        keys = KeyRing.load(settings.server.api_key, settings.server.api_keys_file)
        return cls(keys, WorkerTls(settings.tls), client_context(settings.tls))


def _serve_as_child(
    settings: RouterSettings, files: ReadFiles, identity: ProcessIdentity, listeners: list[socket.socket]
) -> int:
    """Serve as one of several processes, with this process's share of the limits."""
    _configure_logging(settings.server, f"router-{identity.index}")
    peers = Peers(identity.index, identity.paths, restarted=identity.restarted)
    share = process_share(settings, identity.index, len(identity.paths))
    app = App(build_components(share, peers=peers, keys=files.keys, worker_tls=files.worker_tls))
    return serve(app, listeners, files.client_tls)
