"""Measures what open prompts cost requests that do not use them.

`python -m sglang_ext.bench --with URL --without URL` sends requests to two routers in turns. The servers of one
have open prompts, those of the other were started with SGLANG_EXT_OPEN_PROMPTS=0. Each turn is one streamed
request to each. The medians of the time to first token and of the time per token are compared, and the outputs
must be the same. The first turns warm up and are not counted. With a model of few layers, most of the time is
the schedulers' own work.
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
    """One answer.

    Attributes:
        ttft: Seconds to the first token.
        tpot: Seconds per token after it.
        ids: Its token ids.
    """

    ttft: float
    tpot: float
    ids: list[int]


def ask(router: str, ids: list[int], tokens: int) -> Turn:
    """Send one greedy, streamed request with this prompt for so many tokens."""
    address = urllib.parse.urlsplit(router)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=120)
    sampling = {"temperature": 0, "max_new_tokens": tokens, "ignore_eos": True}
    body = json.dumps({"input_ids": ids, "sampling_params": sampling, "stream": True})
    began = time.perf_counter()
    connection.request("POST", "/generate", body, {"content-type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"bench: {router} answered {response.status}: {response.read().decode()[:200]}")
    first_at = None
    last_event = None
    for line in response:
        if line.startswith(b"data: {"):
            first_at = first_at or time.perf_counter()
            last_event = json.loads(line[6:])
    ended = time.perf_counter()
    connection.close()
    if first_at is None or last_event is None:
        raise SystemExit(f"bench: {router} answered without a token.")
    return Turn(first_at - began, (ended - first_at) / (tokens - 1), last_event["output_ids"])


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
    for words, name in (("to the first token", "ttft"), ("a token after it", "tpot")):
        on, off = ([getattr(turn, name) for turn in turns[side]] for side in ("on", "off"))
        ratio = statistics.median(on) / statistics.median(off)
        print(f"{words:24}{quartiles(on):>24}{quartiles(off):>24}  {ratio:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
