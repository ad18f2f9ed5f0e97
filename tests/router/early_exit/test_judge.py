"""The real judge: a child process with MiniLM, real pipes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO, cast

import pytest
import torch

from router.early_exit import Agreement, Judge, JudgeError, judge_process
from router.early_exit.embedder import Embedder
from router.early_exit.judge_main import device_is_lost, process_batch
from router.early_exit.judge_protocol import encode_message, read_message
from tests.router.support.aio import until

pytestmark = pytest.mark.servers  # the judge's process, with its embedding model

ALIKE = ["The sky is blue because air scatters blue light.", "Air scatters blue light, so the sky looks blue."]
APART = ["The sky is blue because air scatters blue light.", "My grandmother sells three old bicycles on Sunday."]
PATIENCE = 120.0  # seconds, for a loaded machine


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def judge(runner: asyncio.Runner) -> Iterator[Judge]:
    made = Judge()
    runner.run(made.start())
    yield made
    runner.run(made.close())


def test_answers_that_agree(judge: Judge, runner: asyncio.Runner) -> None:
    async def ask(texts: list[str]) -> float:
        return (await judge.agreement(texts, [0.9, 0.6], within=PATIENCE)).P

    alike, apart = runner.run(ask(ALIKE)), runner.run(ask(APART))
    assert alike > 0.8 > 0.3 > apart
    same = runner.run(judge.agreement([ALIKE[0]] * 3, [0.5, 0.7, 0.9], within=PATIENCE))
    assert pytest.approx(1.0, abs=1e-4) == same.P
    assert pytest.approx(((0.25 + 0.49 + 0.81) / 3) ** 0.5, abs=1e-5) == same.C
    assert pytest.approx(1 - 0.3 / 0.7, abs=1e-3) == same.B
    assert pytest.approx((same.C * same.B) ** 0.5, rel=1e-4) == same.Q


def test_the_order_of_answers_does_not_count(judge: Judge, runner: asyncio.Runner) -> None:
    texts, confidences = [*ALIKE, APART[1]], [0.9, 0.5, 0.3]
    one = runner.run(judge.agreement(texts, confidences, within=PATIENCE))
    other = runner.run(judge.agreement(texts[::-1], confidences[::-1], within=PATIENCE))
    assert pytest.approx((other.C, other.P, other.Q), abs=1e-5) == (one.C, one.P, one.Q)
    assert one.S[0][2] == pytest.approx(other.S[2][0], abs=1e-5)


def test_chunks_and_blank_answers(judge: Judge, runner: asyncio.Runner) -> None:
    chunked = runner.run(judge.agreement(ALIKE, [0.9, 0.9], m=3, within=PATIENCE))
    assert -1 <= chunked.P <= 1
    blank = runner.run(judge.agreement(["", "words"], [0.9, 0.9], within=PATIENCE))
    assert blank.Q == 0.0 or blank.Q != blank.Q, "an answer without words agrees with nothing"


def test_answers_are_compared_by_their_hidden_states(judge: Judge, runner: asyncio.Runner) -> None:
    async def ask(texts: list[str]) -> Agreement:
        return await judge.agreement(texts, [0.9, 0.6], similarity="correlation", within=PATIENCE)

    alike, apart = runner.run(ask(ALIKE)), runner.run(ask(APART))
    assert 1 > alike.P > apart.P > 0
    assert alike.S[0][1] == pytest.approx(alike.P, abs=1e-5)
    assert pytest.approx(1.0, abs=1e-3) == runner.run(ask([ALIKE[0]] * 2)).P
    assert runner.run(ask(["", "words"])).P == 0


def test_many_at_once_do_not_hold_the_loop(judge: Judge, runner: asyncio.Runner) -> None:
    async def ask() -> int:
        turns = 0
        calls = [
            asyncio.ensure_future(judge.agreement([f"{text} {i}" for text in ALIKE], [0.5, 0.5], within=PATIENCE))
            for i in range(60)
        ]
        while not any(call.done() for call in calls):
            await asyncio.sleep(0.001)
            turns += 1
        assert all(result.P > 0.7 for result in await asyncio.gather(*calls))
        return turns

    assert runner.run(ask()) > 1, "the loop turns while the judge embeds, not only between calls"


def test_a_call_without_time_is_given_up(judge: Judge, runner: asyncio.Runner) -> None:
    with pytest.raises(JudgeError, match="did not answer after 1e-06 s"):
        runner.run(judge.agreement(ALIKE, [0.5, 0.5], within=1e-6))
    assert runner.run(judge.agreement(ALIKE, [0.5, 0.5], within=PATIENCE)).P > 0.8


def test_a_killed_judge_comes_back(judge: Judge, runner: asyncio.Runner) -> None:
    async def kill() -> float:
        pid = judge.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                found = await judge.agreement(ALIKE, [0.5, 0.5], within=PATIENCE)
            except JudgeError:
                await asyncio.sleep(0.1)
                continue
            assert judge.pid not in (None, pid)
            return found.P
        raise AssertionError("it did not come back")

    assert runner.run(kill()) > 0.8


def test_a_killed_judge_comes_back_before_anybody_needs_it(judge: Judge, runner: asyncio.Runner) -> None:
    async def kill() -> None:
        pid = judge.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: judge.pid not in (None, pid), "another one has loaded its model", PATIENCE)

    runner.run(kill())
    assert runner.run(judge.agreement(ALIKE, [0.5, 0.5], within=PATIENCE)).P > 0.8


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.5])
def test_closing_leaves_nothing(moment: float) -> None:
    async def close() -> None:
        made = Judge()
        starting = asyncio.create_task(made.start())
        await asyncio.sleep(moment)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await made.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        with pytest.raises(JudgeError, match="the judge was closed"):
            await made.agreement(ALIKE, [0.5, 0.5])

    before = _judges()
    asyncio.run(close())
    assert _judges() <= before


def _judges() -> set[str]:
    listed = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "judge_main"], capture_output=True, text=True, check=False
    )
    return set(listed.stdout.split())


def test_a_model_that_is_not_there() -> None:
    async def start() -> None:
        made = Judge("builtin:nothing")
        try:
            with pytest.raises(JudgeError, match="could not load its model"):
                await made.start()
        finally:
            await made.close()

    asyncio.run(start())


def test_the_router_itself_imports_no_torch() -> None:
    code = "import sys, router.server.app; sys.exit('torch' in sys.modules or 'sglang' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_judge_that_hangs_is_ended_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped with a signal, it takes requests and answers none."""
    monkeypatch.setattr(judge_process, "SILENCE_LIMIT", 0.3)

    async def hang() -> float:
        made = Judge()
        try:
            await made.start()
            pid = made.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(JudgeError):
                await made.agreement(ALIKE, [0.5, 0.5], within=PATIENCE)
            assert made.pid is None
            monkeypatch.setattr(judge_process, "SILENCE_LIMIT", PATIENCE)
            found = await made.agreement(ALIKE, [0.5, 0.5], within=PATIENCE)
            assert made.pid not in (None, pid)
            return found.P
        finally:
            await made.close()

    assert asyncio.run(hang()) > 0.8


def test_a_late_request_is_answered_too() -> None:
    """Else silence would not tell a judge that hangs from one that has too much to do."""
    late = {
        "id": 3,
        "texts": ALIKE,
        "confidences": [0.5, 0.5],
        "gamma": 0.5,
        "tau": 0.7,
        "m": 1,
        "similarity": "pooled",
        "deadline": 0.0,
    }
    assert process_batch([late], Embedder(lambda _: torch.zeros(0, 3), torch.zeros(3))) == [
        {"id": 3, "problem": "it came too late"}
    ]


LOST_GPU = """
import torch
from router.early_exit import embedding_model, judge_main
from router.early_exit.embedder import Embedder

def fail(*_, **__):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

embedding_model.load_embedder = lambda *_: Embedder(fail, torch.zeros(3))
judge_main.warm_up = lambda _: setattr(torch, "zeros", fail)
raise SystemExit(judge_main.main(["--model", "none"]))
"""


def test_a_judge_whose_gpu_is_lost_says_so_and_ends() -> None:
    """Then the router starts another one. The lost GPU is made up: whatever is computed fails."""
    request = {"id": 3, "texts": ALIKE, "confidences": [0.5, 0.5], "gamma": 0.5, "tau": 0.7, "m": 1}
    message = encode_message({**request, "similarity": "pooled", "deadline": time.monotonic() + 1000})
    judge = subprocess.Popen([sys.executable, "-c", LOST_GPU], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with judge:
        to_judge, from_judge = cast(BinaryIO, judge.stdin), cast(BinaryIO, judge.stdout)
        assert read_message(from_judge) == {"ready": True}
        to_judge.write(message)
        to_judge.flush()
        told = read_message(from_judge)
        assert told is not None
        assert "illegal memory access" in told["problem"]
        assert judge.wait(PATIENCE) == 1


def test_a_gpu_that_is_full_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = Embedder(lambda _: torch.zeros(0, 3), torch.zeros(3))
    assert not device_is_lost(embedder)

    def full(*_: object, **__: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "zeros", full)
    assert not device_is_lost(embedder)
