"""`python -m tests.retraction`: open prompts beside requests that decode retracts lose nothing.

Starts a pair whose decode pool is too small for what it is asked: clients ask for long answers, so that decode retracts
requests, while others send their prompts in segments as the router does for an agent that waits for its upstreams.
Every answer must come, whole, and in the end all KV is free. Prints what happened as JSON, and ends with exit code 1
when something was lost, nothing was retracted, or overlap scheduling was off. Further arguments go to the launcher.
Which tokens come is shown elsewhere (tests/e2e, float32): on a GPU bfloat16 changes with the batch.
"""

import argparse
import json
import platform
import random
import tempfile
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from tests.launching import Launched, ask, launched, overlay_of

CONTEXT = 4096
PROMPT, ANSWER = (64, 512), 1600  # tokens of the ordinary requests
SEGMENTS, SEGMENT, REST, FINAL = 6, 160, 40, 48  # how often, tokens of each, the rest of the prompt, the answer
PAUSE = 0.15  # seconds between segments
PATIENCE = 30.0  # seconds of a segment after which the servers may have forgotten its prompt
TIMEOUT = 300.0
RETRACTED = "Retract requests"  # what SGLang logs


@dataclass
class Record:
    """What came of the requests."""

    seconds: float
    until: float = 0.0
    ordinary: Counter[str] = field(default_factory=Counter)
    readers: Counter[str] = field(default_factory=Counter)
    segments: Counter[str] = field(default_factory=Counter)
    cached: list[int] = field(default_factory=list)
    """Tokens of each reader's prompt that were there already when its last part came."""

    @property
    def going(self) -> bool:
        """Whether clients begin new requests."""
        return time.monotonic() < self.until


@dataclass(frozen=True)
class Pair:
    """The addresses of one pair, and where its servers meet."""

    router: str
    prefill: str
    decode: str
    bootstrap_port: int


def ordinary(pair: Pair, record: Record, chance: random.Random) -> None:
    """A client that asks for long answers through the router, one after the other."""
    while record.going:
        ids = [chance.randrange(1, 1000) for _ in range(chance.randrange(*PROMPT))]
        sampling = {"max_new_tokens": ANSWER, "ignore_eos": True, "temperature": 0}
        try:
            answer = ask(f"{pair.router}/generate", {"input_ids": ids, "sampling_params": sampling}, TIMEOUT)
        except OSError as error:
            record.ordinary[f"lost: {error}"[:100]] += 1
            continue
        whole = answer["meta_info"]["completion_tokens"] == ANSWER
        record.ordinary["whole" if whole else "cut"] += 1


def reader(pair: Pair, record: Record, chance: random.Random, pool: ThreadPoolExecutor) -> None:
    """A client that sends prompts in segments to both servers, each with its rest in the end."""
    while record.going:
        name, at, parked = uuid.UUID(int=chance.getrandbits(128)).hex, 0, True
        ids = [chance.randrange(1, 1000) for _ in range(SEGMENTS * SEGMENT + REST)]
        for _ in range(SEGMENTS):
            mark, sent = {"id": name, "op": "append", "at": at}, time.monotonic()
            sampling = {"max_new_tokens": 0, "custom_params": {"open_prompt": mark}}
            statuses = [status for status, _ in _both(pair, ids[at : at + SEGMENT], sampling, chance, pool)]
            late = time.monotonic() - sent > PATIENCE
            record.segments["late" if late else "parked" if statuses == [200, 200] else f"refused: {statuses}"] += 1
            if late or statuses != [200, 200]:
                parked = False  # the router would send the whole prompt too
                break
            at += SEGMENT
            time.sleep(PAUSE)
        sampling = {"max_new_tokens": FINAL, "ignore_eos": True, "temperature": 0}
        if parked:
            sampling["custom_params"] = {"open_prompt": {"id": name, "op": "final", "at": at}}
        _, (status, answer) = _both(pair, ids[at:] if parked else ids, sampling, chance, pool)
        if status != 200:
            record.readers[f"lost: {status} {answer}"[:100]] += 1
            continue
        meta = answer["meta_info"]
        whole = meta["completion_tokens"] == FINAL and meta["prompt_tokens"] == len(ids)
        record.readers[("whole, " + ("in segments" if parked else "at once")) if whole else "cut"] += 1
        if parked:
            record.cached.append(meta["cached_tokens"])


def _both(
    pair: Pair, ids: list[int], sampling: dict[str, Any], chance: random.Random, pool: ThreadPoolExecutor
) -> list[tuple[int, Any]]:
    """Status and answer of prefill and of decode."""
    room = {"bootstrap_host": "127.0.0.1", "bootstrap_port": pair.bootstrap_port}
    body = {"input_ids": ids, "sampling_params": sampling, **room, "bootstrap_room": chance.getrandbits(62)}
    legs = [pool.submit(_ask, f"{base}/generate", body) for base in (pair.prefill, pair.decode)]
    return [leg.result() for leg in legs]


def _ask(url: str, body: dict[str, Any]) -> tuple[int, Any]:
    try:
        return 200, ask(url, body, TIMEOUT)
    except HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)


def _load(pair: Pair, record: Record, clients: int, readers: int, seed: int) -> None:
    """All clients, until the time is over and their last requests are answered."""
    record.until = time.monotonic() + record.seconds
    with ThreadPoolExecutor(2 * readers) as pool:
        threads = [
            *(threading.Thread(target=ordinary, args=(pair, record, random.Random(seed + n))) for n in range(clients)),
            *(
                threading.Thread(target=reader, args=(pair, record, random.Random(seed - 1 - n), pool))
                for n in range(readers)
            ),
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            left = max(record.until - time.monotonic(), 0)
            print(f"{left:4.0f} s left: {dict(record.ordinary)} {dict(record.readers)}", flush=True)
            for thread in threads:
                thread.join(5 / len(threads))


def _pair(servers: Launched) -> Pair:
    (model,) = servers.models
    prefill, decode = (f"http://127.0.0.1:{servers.ports[f'{model}-{role}']}" for role in ("prefill", "decode"))
    workers = ask(f"{servers.router}/workers")["workers"]
    (port,) = {worker["bootstrap_port"] for worker in workers if worker.get("bootstrap_port")}
    return Pair(servers.router, prefill, decode, port)


def main() -> int:
    """Run the check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="qwen3-8b", help="dummy weights in the shape of this model (qwen3-8b)")
    parser.add_argument("--path", help="a model instead: a folder or builtin:smollm2")
    parser.add_argument("--pool", type=int, default=16_384, help="tokens of each server's KV pool (16384)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long clients begin requests (60)")
    parser.add_argument("--clients", type=int, default=9, help="with long answers (9)")
    parser.add_argument("--readers", type=int, default=3, help="with prompts in segments (3)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="also write the JSON there")
    options, more = parser.parse_known_args()
    model = {"path": options.path} if options.path else {"shape": options.shape}
    pools = {"context_length": CONTEXT, "max_total_tokens": options.pool}
    config = Path(tempfile.mkdtemp(prefix="retraction-")) / "config.yaml"
    config.write_text(json.dumps({"models": [{"name": "model", **model}], **pools}))
    record = Record(options.seconds)
    with launched(str(config), more) as servers:
        pair = _pair(servers)
        info = ask(f"{pair.decode}/server_info")
        _load(pair, record, options.clients, options.readers, options.seed)
        quiet = servers.becomes_idle()
        states = {name: overlay_of(port) for name, port in servers.ports.items()}
        retracted = servers.log("model-decode").count(RETRACTED)
    told: dict[str, Any] = {
        "machine": platform.platform(),
        "sglang": info.get("version"),
        "model": model,
        **{name: getattr(options, name) for name in ("pool", "seconds", "clients", "readers", "seed")},
        "overlap_scheduling": not info["disable_overlap_schedule"],
        "ordinary": record.ordinary,
        "readers": record.readers,
        "segments": record.segments,
        "cached_of_prompt": sorted(record.cached)[len(record.cached) // 2] if record.cached else None,
        "prompt": SEGMENTS * SEGMENT + REST,
        "retractions": retracted,
        "quiet": quiet,
        "open_prompts": {name: state["open_prompts"] for name, state in states.items()},
    }
    told["lost"] = sum(
        count for kind in (record.ordinary, record.readers) for name, count in kind.items() if "whole" not in name
    )
    shown = json.dumps(told, indent=1)
    print(shown)
    if options.out is not None:
        options.out.write_text(shown + "\n")
    good = quiet and not told["lost"] and retracted and told["overlap_scheduling"] and record.readers
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
