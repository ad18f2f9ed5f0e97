"""Measure the time to first token with and without speculative prefill, on a running pair."""

import argparse
import asyncio
import json
from dataclasses import asdict
from pathlib import Path

from router.bench.speculative_prefill.command import command_parser, record_head
from router.bench.speculative_prefill.load import MODES, Bench, Mode, Sizes, measure
from router.bench.speculative_prefill.pair import close_pair, open_pair
from router.bench.speculative_prefill.prefill_durations import durations_table, prefill_durations
from router.bench.speculative_prefill.table import table


async def run(options: argparse.Namespace) -> int:
    """Measure, print the table, write the record; returns the exit code."""
    dispatcher = await open_pair(options, "bench")
    if dispatcher is None:
        return 2
    workers = dispatcher.registry.workers
    sizes = Sizes(**{key: value for key, value in vars(options).items() if key in Sizes.__dataclass_fields__})
    modes: list[Mode] = ["blocking", *(mode for mode in options.ways if mode != "blocking")]
    if not all(worker.report.open_prompts for worker in workers):
        modes = [mode for mode in modes if mode != "overlay"]
    beside_modes = [mode for mode in modes if options.beside is None or mode in options.beside]
    head = {
        **record_head(options, "speculative_prefill"),
        "servers": [asdict(worker.report) for worker in workers],
        "sizes": vars(sizes),
    }
    try:
        bench = Bench(dispatcher, str(workers[1].model), sizes)
        seconds = await measure(bench, modes, beside_modes)
        seconds["counters"] = {}
        for worker in workers:
            await worker.probe()
            seconds["counters"][worker.role] = worker.report.open_prompts
    finally:
        await close_pair(dispatcher)
    kinds = ("ordinary", *(f"{mode}_ordinary" for mode in beside_modes))
    durations = prefill_durations(options.prefill_log, bench.run, kinds) if options.prefill_log else {}
    if options.out:
        options.out.write_text(json.dumps({**head, "prefill_log": durations, "seconds": seconds}, indent=1) + "\n")
    print("\n".join(f"{key}: {value}" for key, value in head.items() if key != "servers"))
    print(table(seconds, sizes, modes))
    if durations:
        print(durations_table(durations))
    return 0


def main() -> int:
    """Parse the command line and run."""
    parser = command_parser("Time to first token with and without splicing, on a running pair")
    parser.add_argument("--ways", nargs="+", choices=MODES, default=MODES[1:], help="beside blocking")
    parser.add_argument("--beside", nargs="*", choices=MODES, help="measure ordinary requests beside these ways only")
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
