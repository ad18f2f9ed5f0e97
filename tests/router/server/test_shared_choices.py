"""What the processes of a router tell each other of their choices, over real sockets in one process."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from router.load_balancing import CacheAware, PromptKind, PromptPrefix, RoutingContext
from router.server.processes import shared_choices
from router.server.processes.choice_messages import MAX_PROMPT_BYTES, MAX_WAITING_BYTES, PROMPT_OVERHEAD
from router.server.processes.shared_choices import SharedChoices
from router.workers.registry import Registry
from router.workers.worker import Worker
from tests.router.support.aio import aio, until

LONG = "word " * 1_000_000


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_choices, "WHOLE_INTERVAL", 0.05)
    monkeypatch.setattr(shared_choices, "SILENT_AFTER", 0.5)


@dataclass
class Process:
    """What one process of two has; with `workers` plain ones."""

    index: int
    folder: Path
    policy: CacheAware = field(default_factory=CacheAware)
    workers: list[Worker] = field(
        default_factory=lambda: [Worker(f"http://127.0.0.1:{port}", "plain", models=("m",)) for port in (1, 2)]
    )

    def __post_init__(self) -> None:
        paths = [self.folder / str(index) for index in range(2)]
        self.shared = SharedChoices(self.index, paths, Registry(self.workers), {"plain": self.policy})

    def choose(self, text: str, kind: PromptKind = "text") -> int:
        """The number of the worker that gets a prompt."""
        context = RoutingContext(PromptPrefix(text, kind))
        return self.workers.index(self.policy.choose(self.workers, context))

    def knows(self, worker: int, text: str, kind: PromptKind = "text") -> int:
        """How much of a prompt it thinks that the worker has."""
        state = self.policy._states.get(self.workers[worker])
        return 0 if state is None else state.tree.match(PromptPrefix(text, kind))


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Process, Process]]:
    one, other = Process(0, folder), Process(1, folder)
    one.shared.start()
    other.shared.start()
    try:
        yield one, other
    finally:
        await one.shared.close()
        await other.shared.close()


@pytest.mark.parametrize(("kind", "text"), [("text", "a king"), ("tokens", "\ud800\U0010ffff\x00"), ("messages", "é")])
@aio
async def test_prompts_stay_together(kind: PromptKind, text: str, tmp_path: Path) -> None:
    async with two(tmp_path) as (one, other):
        chosen = one.choose(text, kind)
        await until(lambda: other.knows(chosen, text, kind) == len(text), "the other process knows the prompt")
        assert other.choose(text, kind) == chosen
        assert other.choose("something else", kind) != chosen, "new prompts take turns, whoever chooses"


@aio
async def test_of_a_long_prompt_the_beginning_is_told(tmp_path: Path) -> None:
    async with two(tmp_path) as (one, other):
        chosen = one.choose(LONG)
        await until(lambda: other.knows(chosen, LONG) == MAX_PROMPT_BYTES, "the other process knows its beginning")
        assert other.choose(LONG[:400_000]) == chosen, "of 400,000 characters it knows a third"
        for number in range(15):  # more than one message holds
            one.choose(f"{number} {LONG[:50_000]}")
        await until(lambda: all(_known(other, f"{number} {LONG[:50_000]}") for number in range(15)), "all are known")
        assert one.shared.dropped == 0


@aio
async def test_a_process_that_was_busy_hears_it_later(tmp_path: Path) -> None:
    async with two(tmp_path) as (one, other):
        loop, reader = asyncio.get_running_loop(), other.shared._socket
        assert reader is not None
        loop.remove_reader(reader)  # as if it did something else all the time
        texts = [f"{number} and more" for number in range(40)]
        for text in texts:
            one.choose(text)
            await asyncio.sleep(0.01)
        one.workers[0].begin_request("m")
        assert one.shared._others[0].behind
        loop.add_reader(reader, other.shared._hear)
        await until(lambda: all(_known(other, text) for text in texts), "all prompts")
        await until(lambda: other.workers[0].load.elsewhere == 1, "and the request")
        assert one.shared.dropped == 0


@pytest.mark.parametrize("length", [0, 50_000])
@aio
async def test_for_a_process_that_is_away_only_the_prompts_of_late_are_kept(length: int, tmp_path: Path) -> None:
    one, other = Process(0, tmp_path), Process(1, tmp_path)
    one.shared.start()
    texts = [f"{number} {LONG[:length]}" for number in range(2 * MAX_WAITING_BYTES // (length + PROMPT_OVERHEAD))]
    for text in texts:
        one.choose(text)
    await until(lambda: one.shared.dropped > 0, "some are dropped")
    other.shared.start()
    await until(lambda: _known(other, texts[-1]), "the last one")
    assert not _known(other, texts[0])
    assert one.shared._others[0]._waiting_bytes == 0
    await other.shared.close()
    await one.shared.close()


def _known(process: Process, text: str) -> bool:
    return max(process.knows(worker, text) for worker in range(2)) == len(text)


@aio
async def test_loads_are_those_of_all_processes(tmp_path: Path) -> None:
    async with two(tmp_path) as (one, other):
        await until(lambda: one.shared.heard > 0 and other.shared.heard > 0, "they hear each other")
        for _ in range(3):
            one.workers[0].begin_request("m")
        one.workers[0].load.expect_tokens(50)
        other.workers[0].begin_request("m")
        load = other.workers[0].load
        await until(lambda: (load.elsewhere, load.tokens_elsewhere) == (3, 50), "the other process knows them")
        assert (load.requests, load.in_flight) == (1, 4)
        assert other.choose("a new prompt") == 1
        for _ in range(3):
            one.workers[0].load.end()
        one.workers[0].load.expect_tokens(-50)
        await until(lambda: (load.in_flight, load.tokens_elsewhere) == (1, 0), "and that they are over")


@aio
async def test_ranks_of_a_server_have_their_own(tmp_path: Path) -> None:
    one, other = Process(0, tmp_path), Process(1, tmp_path)
    for process in (one, other):
        server = process.workers[0]
        server.ranks = tuple(server._rank(number) for number in range(2))
        process.shared.start()
    await until(lambda: one.shared.heard > 0 and other.shared.heard > 0, "they hear each other")
    one.workers[0].ranks[1].begin_request("m")
    server = other.workers[0]
    await until(lambda: [rank.load.in_flight for rank in server.ranks] == [0, 1], "the rank's request")
    assert server.load.in_flight == 1
    await one.shared.close()
    await other.shared.close()


@aio
async def test_who_comes_later_hears_what_is_in_flight(tmp_path: Path) -> None:
    one, other = Process(0, tmp_path), Process(1, tmp_path)
    one.shared.start()
    one.workers[1].begin_request("m")
    one.choose("nobody hears this")
    other.shared.start()
    await until(lambda: other.workers[1].load.elsewhere == 1, "its request")
    await other.shared.close()
    await one.shared.close()


@aio
async def test_requests_of_a_process_that_died_count_no_more(tmp_path: Path) -> None:
    async with two(tmp_path) as (one, other):
        await until(lambda: other.shared.heard > 0, "it is heard")
        one.workers[0].begin_request("m")
        await until(lambda: other.workers[0].load.elsewhere == 1, "its request")
        await one.shared.close()
        await until(lambda: other.workers[0].load.elsewhere == 0, "it is forgotten")
        again = Process(0, tmp_path)
        again.shared.start()
        again.workers[1].begin_request("m")
        await until(lambda: [each.load.elsewhere for each in other.workers] == [0, 1], "what its successor has")
        await again.shared.close()


@aio
async def test_a_message_of_another_form_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with two(tmp_path) as (one, other):
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sender.sendto(b"\xc1", str(tmp_path / "1d"))
        sender.close()
        await until(lambda: "cannot be read" in caplog.text, "it is said")
        chosen = one.choose("still here")
        await until(lambda: other.knows(chosen, "still here") > 0, "they go on")


@aio
async def test_without_a_socket_a_process_goes_on_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alone = Process(0, tmp_path / "missing")
    with caplog.at_level(logging.WARNING):
        alone.shared.start()
    assert "0d cannot be opened (No such file or directory): this process weighs its own requests only." in caplog.text
    assert alone.choose("a prompt") == 0
    await alone.shared.close()


@aio
async def test_one_worker_is_no_choice(tmp_path: Path) -> None:
    one, other = Process(0, tmp_path), Process(1, tmp_path)
    for process in (one, other):
        process.shared._registry.drop(process.workers.pop())
        process.shared.start()
    one.choose("a prompt")
    one.workers[0].begin_request("m")
    assert one.shared._timer is None, "there is no hurry"
    await until(lambda: other.workers[0].load.elsewhere == 1, "within a second its request is known")
    assert other.knows(0, "a prompt") == 0
    await one.shared.close()
    await other.shared.close()
