"""`python -m tests.harmful`: a search on a GPU for requests that end a server, or that it answers with 5xx.

Starts a pair for each model, and asks them for so many seconds whatever tests/e2e/harmful_requests.py draws, several
requests at once, with an ordinary client beside them. Prints what happened as JSON, with the requests that were
answered with 5xx. The exit code is 1 when there was one, when a server's process is another one in the end, when an
ordinary request got no answer, or when KV stays taken. Further arguments go to the launcher.
"""

import argparse
import json
import platform
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from hypothesis import HealthCheck, Phase, given, settings

from tests.e2e.harmful_requests import requests
from tests.launching import DIRECT, Launched, ask, launched, overlay_of

CONTEXT = 2048
TIMEOUT = 120.0
KEPT = 40  # failures that are told in full
ORDINARY = {"input_ids": [5, 6, 7, 8], "sampling_params": {"max_new_tokens": 3, "temperature": 0, "ignore_eos": True}}


@dataclass
class Record:
    """What came of the requests; several threads write it."""

    until: float
    statuses: Counter[str] = field(default_factory=Counter)
    ordinary: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, path: str, body: dict[str, Any], status: int, told: str) -> None:
        """One answer; status 0 for none."""
        with self.lock:
            self.statuses[str(status)] += 1
            if (status == 0 or status >= 500) and len(self.failures) < KEPT:
                self.failures.append({"path": path, "body": body, "status": status, "told": told[:300]})


def send(url: str, body: dict[str, Any]) -> tuple[int, str]:
    """Status and text of an answer; status 0 and the error when there is none."""
    try:
        return 200, ask_text(url, body)
    except HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, f"{type(error).__name__}: {error}"


def ask_text(url: str, body: dict[str, Any]) -> str:
    """An answer that may be an event stream; raises `OSError`."""
    data = json.dumps(body).encode("utf-8", "surrogatepass")
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with DIRECT.open(request, timeout=TIMEOUT) as response:
        text: bytes = response.read()
        return text.decode(errors="replace")


def search(router: str, model: str, record: Record) -> None:
    """Draw and send until the time is over."""

    @settings(
        max_examples=200, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck]
    )
    @given(requests)
    def one(drawn: tuple[str, dict[str, Any]]) -> None:
        if time.monotonic() > record.until:
            return
        path, body = drawn
        record.add(path, body, *send(f"{router}{path}", {"model": model, **body}))

    while time.monotonic() < record.until:
        one()


def ordinary(router: str, model: str, record: Record) -> None:
    """An ordinary client beside them."""
    while time.monotonic() < record.until:
        status, _ = send(f"{router}/generate", {"model": model, **ORDINARY})
        with record.lock:
            record.ordinary[str(status)] += 1


def run(servers: Launched, seconds: float, threads: int) -> tuple[Record, bool]:
    """Search, and wait until the servers are idle."""
    record = Record(time.monotonic() + seconds)
    targets: list[Callable[[str, str, Record], None]] = [ordinary, *[search] * threads]
    workers = [
        threading.Thread(target=target, args=(servers.router, model, record))
        for model in servers.models
        for target in targets
    ]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        print(f"{max(record.until - time.monotonic(), 0):4.0f} s left: {dict(record.statuses)}", flush=True)
        for worker in workers:
            worker.join(10 / len(workers))
    return record, servers.becomes_idle()


def started(servers: Launched) -> dict[str, Any]:
    """What differs when a server is another process."""
    return {name: overlay_of(port).get("started") for name, port in servers.ports.items()}


def main() -> int:
    """Run the search; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", required=True, nargs="+", help="models with a tokenizer: folders or builtin:smollm2")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (600)")
    parser.add_argument("--threads", type=int, default=8, help="requests at once, for each model (8)")
    parser.add_argument("--server-args", default="", help="for the servers, such as --load-format=dummy")
    parser.add_argument("--out", type=Path, help="also write the JSON there")
    options, more = parser.parse_known_args()
    config = Path(tempfile.mkdtemp(prefix="harmful-")) / "config.yaml"
    models = [{"name": f"model-{number}", "path": path} for number, path in enumerate(options.path, start=1)]
    told_config = {"models": models, "context_length": CONTEXT, "server_args": options.server_args.split()}
    config.write_text(json.dumps(told_config))
    with launched(str(config), more) as servers:
        before = started(servers)
        info = ask(f"http://127.0.0.1:{servers.ports['model-1-decode']}/server_info")
        record, quiet = run(servers, options.seconds, options.threads)
        after = started(servers) if quiet else None
    told = {
        "machine": platform.platform(),
        "sglang": info.get("version"),
        "grammars": info.get("grammar_backend"),
        "sampling": info.get("sampling_backend"),
        "models": [Path(path).name for path in options.path],
        **{name: getattr(options, name) for name in ("seconds", "threads", "server_args")},
        "statuses": record.statuses,
        "ordinary": record.ordinary,
        "same_processes": before == after,
        "quiet": quiet,
        "failures": record.failures,
    }
    shown = json.dumps(told, indent=1)
    print(shown)
    if options.out is not None:
        options.out.write_text(shown + "\n")
    good = quiet and before == after and not record.failures and set(record.ordinary) == {"200"}
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
