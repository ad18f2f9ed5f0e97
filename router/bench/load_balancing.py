"""`python -m router.bench.load_balancing`: what a choice costs each request, by policy, prompt and workers."""

import argparse
import os
import platform
import random
import shlex
import statistics
import sys
import time
from collections.abc import Iterator

from router.load_balancing import (
    POLICIES,
    CacheAware,
    CacheAwareSettings,
    Policy,
    PromptPrefix,
    RoutingContext,
    prompt_prefix,
    token_prefix,
)
from router.load_balancing.prefix_tree import PrefixTree
from router.workers.worker import Worker

SIZES = (1_000, 100_000)  # characters
WORDS = [f"word{i} " for i in range(5_000)]
VOCABULARY = 150_000
KEYED = ("consistent_hashing", "manual")  # policies that need a routing key


def main(arguments: list[str]) -> None:
    """Print the machine, the command and one line per case."""
    parser = argparse.ArgumentParser(prog="python -m router.bench.load_balancing", description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000, help="measured calls a case (%(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 8, 32], help="workers (%(default)s)")
    options = parser.parse_args(arguments)
    if options.calls < 2:
        parser.error(f"--calls {options.calls} gives no percentile; give at least 2.")
    if min(options.workers) < 1:
        parser.error(f"--workers {min(options.workers)} leaves nobody to choose; give at least 1.")
    print(f"machine: {_cpu_model()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}")
    print(f"version: {platform.python_implementation()} {platform.python_version()}")
    print(f"command: {shlex.join(['python', '-m', 'router.bench.load_balancing', *arguments])}")
    print(f"calls:   {options.calls} a case; times in microseconds\n")
    print(f"{'case':<58}{'median':>9}{'p99':>9}")
    for case, times in _all_cases(options.calls, options.workers):
        *_, p99 = statistics.quantiles(times, n=100)
        print(f"{case:<58}{statistics.median(times) * 1e6:9.1f}{p99 * 1e6:9.1f}", flush=True)


def _all_cases(calls: int, workers: list[int]) -> Iterator[tuple[str, list[float]]]:
    yield from _prefix_cases(calls)
    for count in workers:
        for size in SIZES:
            yield from _policy_cases(calls, count, size)
    yield from _eviction_cases(calls)


def _prefix_cases(calls: int) -> Iterator[tuple[str, list[float]]]:
    """Reading the prompt out of a parsed body."""
    for size in SIZES:
        chat = {"messages": [{"role": "user", "content": part} for part in _split(_text(size))]}
        yield f"prefix_of chat, {size:,} characters", [_timed(prompt_prefix, chat) for _ in range(calls)]
        body = {"input_ids": [random.randrange(VOCABULARY) for _ in range(size // 4)]}
        yield f"prefix_of {size // 4:,} token ids", [_timed(prompt_prefix, body) for _ in range(calls)]


def _policy_cases(calls: int, count: int, size: int) -> Iterator[tuple[str, list[float]]]:
    load = f"{size:,} characters, {count} workers"
    for name, make in sorted(POLICIES.items()):
        if name != "cache_aware":
            workers, policy, keyed = _workers(count), make(), name in KEYED
            contexts = (
                RoutingContext(PromptPrefix(_text(size)), routing_key=b"%d" % (number % 100) if keyed else None)
                for number in range(calls)
            )
            yield f"{name}, {load}", [_time_choice(policy, workers, context) for context in contexts]
    shared = _text(size // 2)
    prompts = {
        "new": (PromptPrefix(_text(size)) for _ in range(calls)),
        "half shared": (PromptPrefix(shared + _text(size // 2)) for _ in range(calls)),
        "half shared ids": (
            ids
            for _ in range(calls)
            if (ids := token_prefix([*range(size // 8), *random.choices(range(VOCABULARY), k=size // 8)]))
        ),
        "repeated": (PromptPrefix(shared + shared) for _ in range(calls)),
    }
    for kind, prefixes in prompts.items():
        workers = _workers(count)
        policy = CacheAware()
        yield (
            f"cache_aware {kind}, {load}",
            [_time_choice(policy, workers, RoutingContext(prompt)) for prompt in prefixes],
        )


def _eviction_cases(calls: int) -> Iterator[tuple[str, list[float]]]:
    """Inserting into a full tree of short prompts, so that each long prompt evicts many."""
    shared = _text(500)
    for size in SIZES:
        tree = PrefixTree(CacheAwareSettings.max_tree_size)
        before = -1
        while tree.size > before:  # until it evicts
            before = tree.size
            tree.insert(PromptPrefix(shared + _text(500)))
        prompts = [PromptPrefix(_text(size)) for _ in range(calls)]
        yield f"insert into a full tree, {size:,} characters", [_timed(tree.insert, prompt) for prompt in prompts]


def _time_choice(policy: Policy, workers: list[Worker], context: RoutingContext) -> float:
    return _timed(policy.choose, workers, context)


def _timed(function: object, *arguments: object) -> float:
    assert callable(function)
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


def _workers(count: int) -> list[Worker]:
    return [
        Worker(f"http://127.0.0.1:{port}", "prefill", 1, models=("m",), healthy=True) for port in range(1, count + 1)
    ]


def _text(length: int) -> str:
    return "".join(random.choices(WORDS, k=length // 4))[:length]


def _split(text: str) -> list[str]:
    """The text as ten messages."""
    step = len(text) // 10
    return [text[at : at + step] for at in range(0, len(text), step)]


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        models = []
    return models[0] if models else platform.machine()


if __name__ == "__main__":
    main(sys.argv[1:])
