"""The command."""

import argparse
import asyncio
import json
from pathlib import Path

from router.bench.speculative_prefill.load import WAYS, Bench, Sizes, Way, measure
from router.bench.speculative_prefill.pair import close_pair, open_pair, parser_of, setting
from router.bench.speculative_prefill.table import table
from router.bench.speculative_prefill.waits import waits, waits_table


async def run(options: argparse.Namespace) -> int:
    """Measure, print and write."""
    dispatcher = await open_pair(options, "bench")
    if dispatcher is None:
        return 2
    workers = dispatcher.registry.workers
    sizes = Sizes(**{key: value for key, value in vars(options).items() if key in Sizes.__dataclass_fields__})
    ways: list[Way] = ["blocking", *(way for way in options.ways if way != "blocking")]
    if not all(worker.open_prompts for worker in workers):
        ways = [way for way in ways if way != "overlay"]
    besides = [way for way in ways if options.beside is None or way in options.beside]
    head = {
        **setting(options, "bench"),
        "servers": [worker.info for worker in workers],
        "sizes": vars(sizes),
    }
    try:
        bench = Bench(dispatcher, str(workers[1].model), sizes)
        found = await measure(bench, ways, besides)
        found["counters"] = {}
        for worker in workers:
            await worker.probe()
            found["counters"][worker.role] = worker.open_prompts
    finally:
        await close_pair(dispatcher)
    waited = (
        waits(options.prefill_log, bench.run, ("ordinary", *(f"{way}_ordinary" for way in besides)))
        if options.prefill_log
        else {}
    )
    if options.out:
        options.out.write_text(json.dumps({**head, "prefill_log": waited, "seconds": found}, indent=1) + "\n")
    print("\n".join(f"{key}: {value}" for key, value in head.items() if key != "servers"))
    print(table(found, sizes, ways))
    if waited:
        print(waits_table(waited))
    return 0


def main() -> int:
    """The command."""
    parser = parser_of("Time to first token with and without splicing, on a running pair")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS[1:], help="beside blocking")
    parser.add_argument("--beside", nargs="*", choices=WAYS, help="measure ordinary requests beside these ways only")
    parser.add_argument("--prefill-log", type=Path, metavar="FILE", help="the prefill server's log")
    for name, default in vars(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    options = parser.parse_args()
    if unmeasured := set(options.beside or ()) - {"blocking", *options.ways}:
        parser.error(f"--beside {unmeasured.pop()} needs it among --ways.")
    if options.per_second <= 0 or options.crowd < 1:
        parser.error("--per-second must be above 0 and --crowd at least 1")
    if options.prefill_log and not options.prefill_log.is_file():
        parser.error(f"--prefill-log {options.prefill_log} is no file")
    return asyncio.run(run(options))


if __name__ == "__main__":
    raise SystemExit(main())
