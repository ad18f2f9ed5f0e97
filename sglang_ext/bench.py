"""What the overlay's open prompts cost requests that do not use them.

`python -m sglang_ext.bench --with URL --without URL` asks two routers in turns: one whose servers have open
prompts, one whose servers were started with SGLANG_EXT_OPEN_PROMPTS=0. Each turn is one streamed request;
its time to first token and its time per token are compared in medians, and outputs must be the same. The
first turns warm up and do not count. With a model of few layers the schedulers' own work is most of the time.
"""

import argparse
import http.client
import json
import random
import statistics
import sys
import time
import urllib.parse
from dataclasses import dataclass

from sglang_ext.versions import versions


@dataclass(frozen=True)
class Turn:
    """One answer: seconds to its first token, seconds a token after it, and its token ids."""

    first: float
    each: float
    ids: list[int]


def ask(router: str, ids: list[int], tokens: int) -> Turn:
    """A greedy streamed request with this prompt."""
    address = urllib.parse.urlsplit(router)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=120)
    sampling = {"temperature": 0, "max_new_tokens": tokens, "ignore_eos": True}
    body = json.dumps({"input_ids": ids, "sampling_params": sampling, "stream": True})
    began = time.perf_counter()
    connection.request("POST", "/generate", body, {"content-type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"bench: {router} answered {response.status}: {response.read().decode()[:200]}")
    first = None
    told = None
    for line in response:
        if line.startswith(b"data: {"):
            first = first or time.perf_counter()
            told = json.loads(line[6:])
    ended = time.perf_counter()
    connection.close()
    if first is None or told is None:
        raise SystemExit(f"bench: {router} answered without a token.")
    return Turn(first - began, (ended - first) / (tokens - 1), told["output_ids"])


def has_open_prompts(router: str) -> bool:
    """Whether the servers behind a router have open prompts."""
    address = urllib.parse.urlsplit(router)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
    connection.request("GET", "/workers")
    workers = json.load(connection.getresponse())["workers"]
    return all("ttl" in worker["overlay"]["open_prompts"] for worker in workers)


def quartiles(values: list[float]) -> str:
    """Median and quartiles in milliseconds."""
    low, middle, high = (1e3 * value for value in statistics.quantiles(values, n=4))
    return f"{middle:8.2f} [{low:.2f}-{high:.2f}]"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--with", dest="on", required=True, metavar="URL", help="router whose servers have open prompts"
    )
    parser.add_argument("--without", dest="off", required=True, metavar="URL", help="router whose servers have none")
    parser.add_argument("--machine", default="not told")
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--prompt", type=int, default=100, help="tokens")
    parser.add_argument("--answer", type=int, default=100, help="tokens")
    options = parser.parse_args()
    if not has_open_prompts(options.on) or has_open_prompts(options.off):
        print("bench: the servers of --with must have open prompts, and those of --without none.", file=sys.stderr)
        return 2
    turns: dict[str, list[Turn]] = {"on": [], "off": []}
    generator = random.Random(1)
    for turn in range(options.turns + 5):
        ids = [generator.randrange(1_000, 30_000) for _ in range(options.prompt)]
        order = ["on", "off"] if turn % 2 else ["off", "on"]
        got = {side: ask(getattr(options, side), ids, options.answer) for side in order}
        if got["on"].ids != got["off"].ids:
            print(f"bench: turn {turn}: the answers differ.", file=sys.stderr)
            return 1
        if turn >= 5:
            for side in order:
                turns[side].append(got[side])
    print(f"machine: {options.machine}\ncommand: python -m sglang_ext.bench {' '.join(sys.argv[1:])}")
    print(f"versions: {json.dumps(versions())}")
    print(f"{options.turns} turns of {options.prompt} tokens in, {options.answer} out; all answers the same")
    print(f"{'ms, median [quartiles]':24}{'with':>24}{'without':>24}  ratio of medians")
    for words, name in (("to the first token", "first"), ("a token after it", "each")):
        on, off = ([getattr(turn, name) for turn in turns[side]] for side in ("on", "off"))
        ratio = statistics.median(on) / statistics.median(off)
        print(f"{words:24}{quartiles(on):>24}{quartiles(off):>24}  {ratio:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
