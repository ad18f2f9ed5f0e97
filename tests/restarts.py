"""`python -m tests.restarts --config h200-pair`: servers that are killed under load come back with the same KV pool.

Starts the launcher with a config, sends requests through the router without pause, and kills each server in turn, as
often as told. Prints one line a restart and ends with exit code 1 when a pool had another size than before, or a server
did not come back. Further arguments go to the launcher. Meant for GPUs that several servers share, where a share of the
free memory would not be the same.
"""

import argparse
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from tests.launching import Launched, ask, launched, overlay_of, wait

RESTART_SECONDS = 600.0
CLIENTS = 16


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


def _has_more(servers: Launched, line: str, than: int) -> bool:
    return servers.output().count(line) > than


def main() -> int:
    """Run the check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="h200-pair", help="a config of the launcher (default: h200-pair)")
    parser.add_argument("--rounds", type=int, default=2, help="how often each server is killed (default: 2)")
    parser.add_argument("--tokens", type=int, default=8192, help="twice the longest prompt (default: 8192)")
    options, more = parser.parse_known_args()
    wrong = 0
    with launched(options.config, more) as servers:
        ports = servers.ports
        pools = {name: overlay_of(port)["kv"]["total"] for name, port in ports.items()}
        print(f"pools: {pools}", flush=True)
        with load(servers.router, servers.models, options.tokens) as counts:
            for number in range(1, options.rounds * len(ports) + 1):
                name = list(ports)[number % len(ports)]
                time.sleep(10)  # under load, with requests on both servers
                ready = f"{name} is ready again"
                before = servers.output().count(ready)
                os.kill(overlay_of(ports[name])["processes"]["scheduler"]["pid"], signal.SIGKILL)
                started = time.monotonic()
                wait(RESTART_SECONDS, ready, partial(_has_more, servers, ready, before), servers.process)
                pool = overlay_of(ports[name])["kv"]["total"]
                wrong += pool != pools[name]
                verdict = "the same" if pool == pools[name] else f"NOT the same: {pools[name]} before"
                seconds = time.monotonic() - started
                print(f"{number}. {name}: back after {seconds:.0f} s, {pool} tokens, {verdict}; {counts}", flush=True)
    print("every pool came back" if not wrong else f"{wrong} pools had another size")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
