"""`python -m tests.restarts --config h200-pair`: servers that are killed under load come back with the same KV pool.

Starts the launcher with a config, sends requests through the router without pause, and kills each server in turn, as
often as told. Prints one line a restart and ends with exit code 1 when a pool had another size than before, or a server
did not come back. Further arguments go to the launcher. Meant for GPUs that several servers share, where a share of the
free memory would not be the same.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

START_SECONDS = 900.0
RESTART_SECONDS = 600.0
CLIENTS = 16
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
PORT = re.compile(r"^(\S+)-(prefill|decode) on .*, port (\d+): ready", re.MULTILINE)


def ask(url: str, body: Any = None, timeout: float = 120.0) -> Any:
    """A JSON answer; raises `OSError` when there is none, or the status says failure."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with DIRECT.open(request, timeout=timeout) as response:
        return json.loads(response.read())


def overlay_of(port: int) -> dict[str, Any]:
    """The overlay's part of a server's `/server_info`."""
    found: dict[str, Any] = ask(f"http://127.0.0.1:{port}/server_info", timeout=30)["internal_states"][0]["sglang_ext"]
    return found


def wait(seconds: float, what: str, done: Callable[[], bool], launcher: "subprocess.Popen[bytes]") -> None:
    """Wait for something; leave with a sentence when it does not come, or the launcher ends."""
    deadline = time.monotonic() + seconds
    while not done():
        if launcher.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"{what} did not come; see the launcher's output.")
        time.sleep(1)


@contextmanager
def load(router: str, models: list[str], tokens: int) -> Iterator[dict[str, int]]:
    """Requests of some thousand tokens from several clients; counts those that were answered and that failed."""
    counts, stop = {"answered": 0, "failed": 0}, threading.Event()

    def client(number: int) -> None:
        chance = random.Random(number)
        while not stop.is_set():
            ids = [chance.randrange(1, 1000) for _ in range(chance.randrange(tokens // 8, tokens // 2))]
            body: dict[str, Any] = {"model": chance.choice(models), "input_ids": ids}
            body["sampling_params"] = {"max_new_tokens": 32, "ignore_eos": True}
            try:
                ask(f"{router}/generate", body)
                counts["answered"] += 1
            except OSError:
                counts["failed"] += 1
                stop.wait(1)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _has_more(output: Path, line: str, than: int) -> bool:
    return output.read_text().count(line) > than


def main() -> int:
    """Run the check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="h200-pair", help="a config of the launcher (default: h200-pair)")
    parser.add_argument("--rounds", type=int, default=2, help="how often each server is killed (default: 2)")
    parser.add_argument("--tokens", type=int, default=8192, help="twice the longest prompt (default: 8192)")
    options, more = parser.parse_known_args()
    folder = Path(tempfile.mkdtemp(prefix="restarts-"))
    output, router_port = folder / "launch.out", 30900
    print(f"output and logs: {folder}", flush=True)
    command = [sys.executable, "-m", "launch.pd", "--config", options.config, "--port", str(router_port), *more]
    with output.open("ab") as out:
        launcher = subprocess.Popen([*command, "--logs", str(folder / "logs")], stdout=out, stderr=out)
    wrong = 0
    try:
        wait(START_SECONDS, "the launch", lambda: "\nready: " in output.read_text(), launcher)
        servers = {f"{name}-{role}": int(port) for name, role, port in PORT.findall(output.read_text())}
        models = sorted({name.rpartition("-")[0] for name in servers})
        pools = {name: overlay_of(port)["kv"]["total"] for name, port in servers.items()}
        print(f"pools: {pools}", flush=True)
        with load(f"http://127.0.0.1:{router_port}", models, options.tokens) as counts:
            for number in range(1, options.rounds * len(servers) + 1):
                name = list(servers)[number % len(servers)]
                time.sleep(10)  # under load, with requests on both servers
                ready = f"{name} is ready again"
                before = output.read_text().count(ready)
                os.kill(overlay_of(servers[name])["processes"]["scheduler"]["pid"], signal.SIGKILL)
                started = time.monotonic()
                wait(RESTART_SECONDS, ready, partial(_has_more, output, ready, before), launcher)
                pool = overlay_of(servers[name])["kv"]["total"]
                wrong += pool != pools[name]
                verdict = "the same" if pool == pools[name] else f"NOT the same: {pools[name]} before"
                seconds = time.monotonic() - started
                print(f"{number}. {name}: back after {seconds:.0f} s, {pool} tokens, {verdict}; {counts}", flush=True)
    finally:
        launcher.send_signal(signal.SIGINT)
        launcher.wait(120)
    print("every pool came back" if not wrong else f"{wrong} pools had another size")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
