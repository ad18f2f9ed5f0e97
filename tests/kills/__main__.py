"""`python -m tests.kills --minutes 60`: kill -9 of one process at a random instant of each minute, under mixed load.

Two launched pairs of one small model on CPUs, each with a router of its own, and a router of several processes that has
both. One line a kill; then what was found about each promise. The exit code is 1 when one of them was not kept.
"""

import argparse
import asyncio
import os
import platform
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import psutil

from router.bench.report import environment
from tests.e2e.servers import wait_for
from tests.kills.load import PAUSE_SECONDS, Clients, Load
from tests.kills.record import BOTH, ROLES, Kill, Outcome, Record, bars, explained, refused_share
from tests.kills.recovery import Watch
from tests.kills.rig import Rig, running_rig

WARM_UP_SECONDS = 20.0  # of load before anything is counted, so that the judges are there
JUDGE_SECONDS = 60.0  # that a judge which is to be killed may take to be there
QUIET_SECONDS = 120.0  # after the last request
CLIENTS = 3  # of the router with both pairs; each other one has one
KEPT = 40  # outcomes of a kind that are written out


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.kills", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=int, default=60, help="of load, with a kill in each (%(default)s)")
    parser.add_argument("--seed", type=int, help="of the kills and the load (a new one)")
    parser.add_argument("--folder", type=Path, help="for logs (a new temporary one)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything as JSON")
    return parser.parse_args(arguments)


def schedule(minutes: int, chance: random.Random) -> list[tuple[str, float]]:
    """Of each minute the role whose process is killed and the second of the load; each role once in four minutes."""
    roles = [role for _ in range(0, minutes, len(ROLES)) for role in chance.sample(ROLES, len(ROLES))]
    return [(roles[minute], 60.0 * minute + chance.uniform(0, 60)) for minute in range(minutes)]


class Soak:
    """One run on a rig."""

    def __init__(self, rig: Rig, record: Record, seed: int) -> None:
        self._rig = rig
        self._record = record
        self._seed = seed
        self._chance = random.Random(seed)
        self._load = self._new_load(seed)

    def _new_load(self, seed: int) -> Load:
        groups = [Clients(BOTH, self._rig.router, CLIENTS, trees=True)]
        groups += [Clients(pair.name, pair.router, 1, trees=False) for pair in self._rig.pairs]
        return Load(groups, seed)

    async def run(self) -> None:
        """Load, kills, and what is held before and after."""
        warm_up = self._new_load(self._seed + 1)
        warm_up.begin()
        await asyncio.sleep(WARM_UP_SECONDS)
        await warm_up.end()
        assert await asyncio.to_thread(wait_for, self._rig.quiet, QUIET_SECONDS), "the servers did not become quiet"
        self._record.start = await asyncio.to_thread(self._rig.held)
        self._record.outcomes = self._load.outcomes
        self._load.begin()
        try:
            for role, second in schedule(self._record.minutes, self._chance):
                # What was killed before is back by then, else no second pair might be there.
                await asyncio.sleep(second - self._load.now())
                await self._kill(role)
            await asyncio.sleep(60.0 * self._record.minutes - self._load.now())
        finally:
            await self._load.end()
        await asyncio.to_thread(wait_for, self._rig.quiet, QUIET_SECONDS)
        self._record.end = await asyncio.to_thread(self._rig.held)

    async def _kill(self, role: str) -> None:
        """Kill a process of a role, and wait until it is back."""
        server, leader = None, None
        if role in {"prefill", "decode"}:
            server = self._chance.choice([each for each in self._rig.servers if each.role == role])
            leader, *others = await asyncio.to_thread(server.processes)
            process = self._chance.choice([leader, *others])
            victim = f"{server.name}, {_name(process)}"
        elif role == "router":
            process = self._chance.choice(self._rig.router_processes())
            victim = "router process"
        else:
            there = await asyncio.to_thread(wait_for, lambda: bool(self._rig.judges()), JUDGE_SECONDS)
            assert there, "there is no judge to kill"
            process = self._chance.choice(self._rig.judges())
            victim = "judge"
        judges = len(self._rig.judges())
        kill = Kill(role, victim, self._load.now(), round(os.getloadavg()[0], 1))
        self._record.kills.append(kill)
        process.send_signal(signal.SIGKILL)
        watch = Watch(self._rig, kill, judges)
        if server is not None and leader is not None:
            await watch.server(server, leader)
        else:
            await (watch.router(process) if role == "router" else watch.judge(process))
        print(f"{len(self._record.kills)}. {_line(kill)}; {_counts(self._record.outcomes)}", flush=True)


def _name(process: psutil.Process) -> str:
    """Which process of a server it is."""
    title = " ".join(process.cmdline()[:1])
    return title.partition("::")[2].strip() or "leader"


def _line(kill: Kill) -> str:
    def told(seconds: float | None) -> str:
        return "never" if seconds is None else f"{seconds:.2f} s"

    times = (
        f"generated after {told(kill.generated)}, answered after {told(kill.answered)}, back after {told(kill.back)}"
    )
    return f"{kill.victim} at {kill.at:.0f} s: {times}"


def _counts(outcomes: Sequence[Outcome]) -> str:
    results = Counter(each.result for each in outcomes)
    return ", ".join(f"{count} {result}" for result, count in results.most_common())


def summary(record: Record, command: str, seed: int) -> dict[str, Any]:
    """What is written: everything but the requests that were answered, which are counted."""
    outcomes = record.outcomes
    routers = sorted({each.router for each in outcomes})
    durations = sorted(each.ended - each.began for each in outcomes if each.result == "answer")
    others = [each for each in outcomes if each.result not in {"answer", "left"}]
    return {
        "command": command,
        "seed": seed,
        "clients": {"of both pairs": CLIENTS, "of each pair": 1, "seconds between requests, at most": PAUSE_SECONDS},
        "surroundings": {
            **environment(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "system": platform.system(),
            **{name: version(name) for name in ("sglang", "torch", "nixl-cu12", "httpx") if _installed(name)},
        },
        "bars": [asdict(bar) for bar in bars(record)],
        "requests": {
            "all": len(outcomes),
            "by_router": {name: dict(Counter(o.result for o in outcomes if o.router == name)) for name in routers},
            "by_kind": {
                kind: dict(Counter(o.result for o in outcomes if o.kind == kind))
                for kind in sorted({o.kind for o in outcomes})
            },
            "by_status": dict(Counter(str(each.status) for each in outcomes)),
            "refused_share": {name: round(refused_share(outcomes, name), 4) for name in routers},
            "seconds_of_answers": {
                name: round(durations[int(share * (len(durations) - 1))], 2)
                for name, share in (("median", 0.5), ("p99", 0.99), ("longest", 1.0))
                if durations
            },
        },
        "kills": [{**asdict(kill), "delay": kill.delay} for kill in record.kills],
        "start": record.start and asdict(record.start),
        "end": record.end and asdict(record.end),
        "left": record.left,
        "others": [{**asdict(each), "explained": explained(each, record.kills)} for each in others[:KEPT]],
    }


def _installed(name: str) -> bool:
    try:
        version(name)
    except ModuleNotFoundError:
        return False
    return True


def main() -> int:
    """Run; returns the exit code."""
    options = parse(sys.argv[1:])
    # A shell that starts this in the background lets it ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seed = options.seed if options.seed is not None else random.SystemRandom().getrandbits(32)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="kills-"))
    print(f"seed {seed}, logs in {folder}", flush=True)
    record = Record(options.minutes)
    with running_rig(folder) as rig:
        print("two pairs and their routers are ready", flush=True)
        asyncio.run(Soak(rig, record, seed).run())
    record.left = rig.left()
    command = f"python -m tests.kills --minutes {options.minutes} --seed {seed}"
    if options.out is not None:
        told = summary(record, command, seed)
        options.out.write_bytes(orjson.dumps(told, default=str, option=orjson.OPT_INDENT_2) + b"\n")
    print(_counts(record.outcomes))
    for bar in bars(record):
        print(f"{'kept  ' if bar.kept else 'BROKEN'}  {bar.promise}: {bar.found}")
    return 0 if all(bar.kept for bar in bars(record)) else 1


if __name__ == "__main__":
    sys.exit(main())
