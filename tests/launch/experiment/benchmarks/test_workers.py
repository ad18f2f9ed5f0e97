"""The processes of libraries: what does not end is ended, and the next request is answered."""

import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from launch.experiment.benchmarks import BenchmarkError
from launch.experiment.benchmarks.workers import Worker

SERVER = """
import os, time
from launch.experiment.benchmarks.workers.worker import serve

def answer(request):
    if request["do"] == "spin":
        while True: pass
    if request["do"] == "sleep": time.sleep(1000)
    if request["do"] == "die": os._exit(3)
    if request["do"] == "fill": return len(bytearray(8 << 30))
    if request["do"] == "print": print("noise", flush=True)
    if request["do"] == "fail": raise ValueError("no")
    return os.getpid()

serve(answer)
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    (tmp_path / "odd_server.py").write_text(SERVER)
    monkeypatch.syspath_prepend(str(tmp_path))
    worker = Worker("odd_server", cpu_s=0.2, wall_s=30)
    yield worker
    worker.close()


@pytest.mark.parametrize("do", ["spin", "die", "fill"])
def test_a_request_that_takes_too_much_is_none_and_the_next_one_is_answered(worker: Worker, do: str) -> None:
    first = worker.ask({"do": "say"})
    assert worker.ask({"do": do}) is None
    second = worker.ask({"do": "say"})
    assert second not in (None, first)
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


def test_a_request_that_waits_is_ended_by_the_clock(worker: Worker) -> None:
    first = worker.ask({"do": "say"})
    worker._wall_s = 0.1
    assert worker.ask({"do": "sleep"}) is None
    worker._wall_s = 30
    assert worker.ask({"do": "say"}) not in (None, first)
    worker.close()


def test_what_the_library_prints_is_no_answer_and_what_it_raises_is_said(worker: Worker) -> None:
    assert isinstance(worker.ask({"do": "print"}), int)
    with pytest.raises(BenchmarkError, match="odd_server failed: ValueError: no"):
        worker.ask({"do": "fail"})
    assert isinstance(worker.ask({"do": "say"}), int)
    worker.close()


def test_a_process_with_many_open_files_can_ask(worker: Worker) -> None:
    """The C library's select takes no descriptor above 1,023."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert limits[1] > 1400
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 1400), limits[1]))
    try:
        with ExitStack() as opened:
            for _ in range(1100):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
            assert isinstance(worker.ask({"do": "say"}), int)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_process_that_does_not_start_is_said() -> None:
    with pytest.raises(BenchmarkError, match=r"did not start: .*no_such_module"):
        Worker("no_such_module").ask({})
