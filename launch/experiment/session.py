"""One start of an experiment: what the log lacks is run, then the results are written."""

import argparse
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from msgspec import to_builtins
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from launch.errors import ConfigError
from launch.experiment.arm_runs import ArmRuns
from launch.experiment.config import ExperimentConfig, fingerprint, load_experiment
from launch.experiment.given_exits import exits_of_arm
from launch.experiment.lengths import LengthTrace, load_lengths
from launch.experiment.questions import Benchmark, find_benchmark
from launch.experiment.report import write_report
from launch.experiment.run_line import RunLine
from launch.experiment.run_log import RunLog, read_sessions
from launch.experiment.runner import Runner
from launch.experiment.schedule import Block
from launch.experiment.servers import Servers, running_router, started_servers
from launch.experiment.trees import trees_of
from launch.machine.inventory import Inventory
from sglang_ext.versions import versions

PACKAGES = ("faster-moa", "sglang", "vllm", "torch", "nixl", "flashinfer-python")


class ExperimentSession:
    """One start; wrong input is a `LaunchError` of the constructor, before anything is started."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self._options, self._console = options, console
        self._config, self._folder = load_experiment(options.config)
        if options.lengths is not None:
            self._config = self._config.model_copy(update={"lengths": options.lengths})
        self._trees = trees_of(self._config)
        self._lengths = _lengths(self._config, self._folder)
        self._samples: dict[int, int | None] = dict(sorted(options.num_samples.items()))
        most = max((each for each in self._samples.values() if each is not None), default=None)
        limit = None if None in self._samples.values() else most
        self._benchmarks = load_questions(options.benchmark, options.data, limit, options.seed)
        for name, tree in self._trees.items():
            if self._lengths is not None:
                self._lengths.lengths(0, tree, self._config.arms[name].answers)

    async def run(self) -> None:
        """Run what is left, and write the results.

        Raises:
            LaunchError: The folder is another experiment's, servers do not start, or one died.
            RouterError: The router cannot be used.
        """
        options, out = self._options, self._options.out
        with RunLog(out, self._identity()) as log:
            arms = self._arms(log)
            async with self._servers(out) as servers:
                await self._run_left(log, arms, servers)
        write_report(out, self._console, pictures=not options.no_pictures)

    async def _run_left(self, log: RunLog, arms: Mapping[str, ArmRuns], servers: Servers) -> None:
        options = self._options
        with _progress(self._console) as progress:
            bar = progress.add_task("runs")

            def on_run(line: RunLine) -> None:
                progress.update(bar, advance=0 if line.error else 1, description=f"{line.benchmark} {line.arm}")
                if line.error is not None:
                    self._console.print(f"{line.question}, {line.arm}: {line.error}", markup=False, highlight=False)

            runner = Runner(
                servers.router,
                log,
                arms,
                self._benchmarks,
                timeout=self._config.timeout,
                check_alive=servers.check_alive,
                on_run=on_run,
            )
            total, left = runner.missing(self._samples, options.seed)
            progress.update(bar, total=total, completed=total - sum(len(block.questions) for block in left))
            if left:
                about = _about(servers)
                check_machine(read_sessions(log.folder), about)
                await self._warm_up(runner, left)
                session = log.begin_session(about)
                await runner.run(left, session)

    async def _warm_up(self, runner: Runner, left: Sequence[Block]) -> None:
        """Warm up for each number at once that is left, with questions of another draw."""
        sizes = sorted({block.concurrency for block in left})
        if not self._config.warm_up:
            return
        options = self._options
        drawn = load_questions([left[0].benchmark], options.data, max(sizes), options.seed + 1)
        _, questions = drawn[left[0].benchmark]
        await runner.warm_up(self._config.warm_up, {size: questions[:size] for size in sizes})

    def _servers(self, out: Path) -> AbstractAsyncContextManager[Servers]:
        if self._options.router is not None:
            return running_router(self._options.router, self._config, self._trees, out)
        return started_servers(self._config, self._trees, out, self._folder, self._console)

    def _arms(self, log: RunLog) -> dict[str, ArmRuns]:
        return {name: self._arm(name, log) for name in self._config.arms}

    def _arm(self, name: str, log: RunLog) -> ArmRuns:
        arm, seed, keep = self._config.arms[name], self._options.seed, self._config.agent_texts
        exits = None
        if arm.exits is not None:
            exits = exits_of_arm(arm.exits, self._folder, f"{seed}:{name}", lambda: log.lines)
        return ArmRuns(name, arm, self._trees[name], self._lengths, exits, seed, keep)

    def _identity(self) -> dict[str, Any]:
        """What results depend on, and its hash; where the servers are does not matter."""
        options = self._options
        told: dict[str, Any] = {
            "config": self._config.model_dump(mode="json", exclude_defaults=True),  # a key that is new changes nothing
            "benchmarks": {name: [q.id for q in questions] for name, (_, questions) in self._benchmarks.items()},
            "samples": {str(at_once): count for at_once, count in self._samples.items()},
            "seed": options.seed,
            "trees": fingerprint({name: to_builtins(tree) for name, tree in self._trees.items()}),
            "length_trace": None if self._lengths is None else fingerprint(self._lengths.questions),
        }
        return {**told, "hash": fingerprint(told)}


def load_questions(
    names: Sequence[str], data: str | None, limit: int | None, seed: int
) -> dict[str, tuple[Benchmark, Sequence[Any]]]:
    """The benchmarks with their questions; raises `ConfigError` when one is unknown, has none or repeats an id."""
    loaded: dict[str, tuple[Benchmark, Sequence[Any]]] = {}
    for name in names:
        benchmark = find_benchmark(name)
        questions = benchmark.load(data, limit, seed)
        ids = {question.id for question in questions}
        if not questions or len(ids) < len(questions):
            raise ConfigError(f"the benchmark {name} has no questions, or two with the same id.")
        loaded[name] = benchmark, questions
    return loaded


def _lengths(config: ExperimentConfig, folder: Path) -> LengthTrace | None:
    return None if config.lengths is None else load_lengths(config.lengths, folder, config.scale)


def check_machine(before: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Raise `ConfigError` unless this start is on the kind of machine that the ones before it were on."""
    for session in before:
        told, now = (_machine_of(each) for each in (session, about))
        if told != now:
            raise ConfigError(
                f"session {session['session']} of this experiment ran on {told}, and this machine is {now}; their "
                "latencies would not be one experiment's: give another --out."
            )


def _machine_of(about: Mapping[str, Any]) -> str:
    names = about["machine"]["gpus"]
    return f"{about['gpus']} GPUs ({', '.join(sorted(set(names))) or 'none here'})"


def _about(servers: Servers) -> dict[str, Any]:
    inventory = Inventory.detect()
    return {
        "started": time.time(),
        "command": ["python -m launch.experiment", *sys.argv[1:]],
        "process": os.getpid(),
        "gpus": servers.gpus,
        "machine": {
            "cores": inventory.cores,
            "memory_bytes": inventory.memory_bytes,
            "gpus": [gpu.name for gpu in inventory.gpus],
            "python": platform.python_version(),
        },
        "versions": versions(PACKAGES),
        **servers.about,
    }


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("left:"), TimeRemainingColumn(), console=console)
