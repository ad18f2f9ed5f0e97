"""Runs what the log does not have yet, block by block."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launch.errors import ConfigError, LaunchError, ServerDied
from launch.experiment.arm_runs import ArmRuns
from launch.experiment.questions import Benchmark
from launch.experiment.router_client import ask_router
from launch.experiment.run_line import RunLine
from launch.experiment.run_log import RunLog
from launch.experiment.schedule import Block, blocks
from router.errors import ConnectFailed, RouterError
from router.http_client.origin import Origin

MAX_FAILURES = 10
"""So many runs that fail one after the other end the experiment: then something is wrong with all of them."""


class Runner:
    """An experiment against a router.

    Args:
        router: The router.
        log: Where runs are written, and which are there already.
        arms: By name.
        benchmarks: By name, with their questions.
        timeout: Seconds that one run may take.
        check_alive: Raises when a server has died.
        on_run: Called with each run that was written.
    """

    def __init__(
        self,
        router: Origin,
        log: RunLog,
        arms: Mapping[str, ArmRuns],
        benchmarks: Mapping[str, tuple[Benchmark, Sequence[Any]]],
        *,
        timeout: float,
        check_alive: Callable[[], None] = lambda: None,
        on_run: Callable[[RunLine], None] = lambda _: None,
    ) -> None:
        self._router, self._log, self._arms, self._benchmarks = router, log, arms, benchmarks
        self._timeout, self._check_alive, self._on_run = timeout, check_alive, on_run
        self._session = 1
        self._failures = 0
        self._writing = asyncio.Lock()

    def missing(self, samples: Mapping[int, int | None], seed: int) -> tuple[int, list[Block]]:
        """The number of all runs, and the blocks with those that have no answer in the log yet, in order.

        `samples` has for each number of questions at once how many are asked of each benchmark, None for all.
        """
        answered = {line.key for line in self._log.lines if line.error is None}
        counts = {name: len(questions) for name, (_, questions) in self._benchmarks.items()}
        total, left = 0, []
        for block in blocks(counts, samples, list(self._arms), seed):
            total += len(block.questions)
            questions = tuple(index for index in block.questions if self._key(block, index) not in answered)
            if questions:
                left.append(Block(block.benchmark, block.concurrency, block.arm, questions))
        return total, left

    async def run(self, left: Sequence[Block], session: int) -> None:
        """Run blocks one after the other.

        Raises:
            ServerDied: A server died, the router is gone, or many runs in a row failed.
        """
        self._session = session
        for block in left:
            async with asyncio.TaskGroup() as group:
                for index in block.questions:
                    group.create_task(self._run_one(block, index))

    async def warm_up(self, times: int, questions: Mapping[int, Sequence[Any]]) -> None:
        """Run each arm a few times on other questions than those that count, without a line in the log.

        Answers are short: what is slow the first time, as a kernel that is compiled for a batch of that size, is so
        with few tokens, too. `questions` has, by number of questions at once, so many.

        Raises:
            RouterError: One failed.
        """
        for together in questions.values():
            for arm in self._arms.values():
                bodies = [arm.warm_up_body(question, index) for index, question in enumerate(together)]
                for _ in range(times):
                    async with asyncio.TaskGroup() as group:
                        for body in bodies:
                            group.create_task(ask_router(self._router, body, self._timeout, self._check_alive))

    def _key(self, block: Block, index: int) -> tuple[str, int, str, str]:
        return block.benchmark, block.concurrency, self._benchmarks[block.benchmark][1][index].id, block.arm

    async def _run_one(self, block: Block, index: int) -> None:
        benchmark, questions = self._benchmarks[block.benchmark]
        question, arm = questions[index], self._arms[block.arm]
        line = RunLine(
            benchmark=block.benchmark,
            concurrency=block.concurrency,
            question=question.id,
            arm=block.arm,
            index=index,
            session=self._session,
            beside=len(block.questions),
            lengths=arm.asked_lengths(index),
        )
        try:
            body = arm.body(question, index, (block.benchmark, block.concurrency))
            response, line.latency_s = await ask_router(self._router, body, self._timeout, self._check_alive)
            await asyncio.to_thread(arm.fill, line, response, benchmark, question)
        except ConnectFailed as error:
            raise ServerDied(
                f"the router at {self._router.url} is gone ({error}); start again with the same --out to go on."
            ) from None
        except (ConfigError, ServerDied):
            raise
        except (RouterError, LaunchError) as error:
            line.error = str(error)[:1000]
        line.at = time.time()
        async with self._writing:
            await asyncio.to_thread(self._log.append, line)
        self._on_run(line)
        self._failures = 0 if line.error is None else self._failures + 1
        if self._failures >= MAX_FAILURES:
            raise ServerDied(f"{MAX_FAILURES} runs in a row failed, the last because: {line.error}")
