"""Workers named in a file, which may change while the router runs.

workers:                      # each as POST /workers takes it
  - {url: "http://10.0.0.1:30001", worker_type: prefill, bootstrap_port: 8998}
  - {url: "http://10.0.0.2:30002", worker_type: decode}
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from router.config.yaml_text import load_yaml
from router.endpoints.worker_body import read_worker
from router.endpoints.workers import WorkerEndpoints
from router.errors import BadRequest, NotFound, RouterError
from router.workers.factory import WorkerFactory
from router.workers.worker import Worker

Bodies = dict[str, dict[str, Any]]  # by the workers' ids


def read_workers_file(path: Path, factory: WorkerFactory) -> Bodies:
    """The bodies that POST would take for the workers of a YAML or JSON file.

    Raises:
        BadRequest: The file cannot be read or is wrong; one sentence names it and the worker.
    """
    named = f"the workers file {path}"
    value = _parse(path, named)
    entries = value.get("workers") if isinstance(value, dict) and set(value) == {"workers"} else None
    if not isinstance(entries, list):
        raise BadRequest(f"{named} is wrong: it must have `workers`, a list, and nothing else.")
    bodies: Bodies = {}
    addresses: set[str] = set()
    for number, entry in enumerate(entries):
        try:
            worker = _made(entry, factory)
        except RouterError as error:
            raise BadRequest(f"{named} is wrong at workers[{number}]: {error}") from None
        if worker.url in addresses:
            raise BadRequest(f"{named} is wrong at workers[{number}]: {worker.url} is there before.")
        addresses.add(worker.url)
        bodies[worker.id] = entry
    return bodies


def workers_of(bodies: Bodies, factory: WorkerFactory) -> list[Worker]:
    """The workers, as a router has them at its start."""
    return [_made(body, factory) for body in bodies.values()]


class WorkersFile:
    """Follows what the file says. Workers that it never named are left alone.

    Args:
        endpoints: Adds and removes workers.
        bodies: What the file said at the start.
    """

    def __init__(self, endpoints: WorkerEndpoints, bodies: Bodies) -> None:
        self._endpoints = endpoints
        self._known = bodies
        self._to_add: Bodies = {}

    def take_over(self, bodies: Bodies) -> str:
        """Remove workers that are no longer in the file, add new ones, and change those that changed.

        A worker that is removed ends its requests first. Who did not change is left alone, also where an operator has
        removed it.
        """
        gone = [worker_id for worker_id in self._known if worker_id not in bodies]
        new = {worker_id: body for worker_id, body in bodies.items() if self._known.get(worker_id) != body}
        added = sum(worker_id not in self._known for worker_id in new)
        for worker_id in gone:
            self._to_add.pop(worker_id, None)
            with suppress(NotFound):  # an operator may have removed it
                self._endpoints.ensure_removed(worker_id, at_once=False)
        self._known = bodies
        self._to_add |= new
        self.settle()
        return f"{added} workers are added, {len(new) - added} changed, {len(gone)} removed"

    def settle(self) -> None:
        """Add what could not be added before, since a worker at its address is being removed."""
        for worker_id, body in [*self._to_add.items()]:
            if self._endpoints.ensure_added(body, at_once=False):
                del self._to_add[worker_id]


def _made(entry: Any, factory: WorkerFactory) -> Worker:
    if not isinstance(entry, dict) or not all(isinstance(name, str) for name in entry):
        raise BadRequest("a worker is an object with `url` and what POST /workers takes.")
    return factory.make_configured(*read_worker(entry))


def _parse(path: Path, named: str) -> Any:
    try:
        text = path.read_text()
        return json.loads(text) if path.suffix == ".json" else load_yaml(text)
    except OSError as error:
        raise BadRequest(f"{named} cannot be read ({error.strerror}).") from None
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        line = _line_of(error)
        where = "" if line is None else f" at line {line}"
        raise BadRequest(f"{named} is not valid {'JSON' if path.suffix == '.json' else 'YAML'}{where}.") from None


def _line_of(error: Exception) -> int | None:
    """The line of what is wrong. The errors' own texts would quote the file, which may have keys."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return error.problem_mark.line + 1
    return error.lineno if isinstance(error, json.JSONDecodeError) else None
