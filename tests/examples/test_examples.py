"""The examples with frameworks, as their readers run them, over a fake pair: nothing is downloaded or asked elsewhere.

`tests/e2e` has the plain one, whose reader takes answers in the order in which they end.

`FASTER_MOA_EXAMPLES_PYTHON` names another Python that has the frameworks; where one lacks a package, its test is
skipped.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.router.moa.test_tree_runs import OUTPUT_TOKENS, PROMPT_TOKENS, Agents
from tests.router.support.aio import until
from tests.router.support.fakes import Call, native_event
from tests.router.support.threaded import threaded

pytestmark = pytest.mark.servers  # each imports a framework, for seconds, in a process of its own

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("FASTER_MOA_EXAMPLES_PYTHON", sys.executable)
NEEDED = {
    "langgraph_agents": ("langgraph", "langchain_openai"),
    "openai_agents": ("agents",),
    "autogen_agents": ("autogen_agentchat", "autogen_ext"),
}
WRITTEN = "a reason, " * 20  # long enough for a segment of the reader's prompt


class Writers(Agents):
    """Agents whose writers end only after a server got some of the reader's prompt."""

    def __init__(self) -> None:
        super().__init__()
        self.writing_at_reader = 0

    async def good(self, call: Call) -> None:
        """As of `Agents`."""
        prompt = self.prompt(call)
        if "For: " in prompt:
            self.writing_at_reader = max(self.writing_at_reader, len(self.running) - 1)
            await super().good(call)
            return
        await call.stream(native_event(WRITTEN))
        await until(lambda: self.writing_at_reader > 0, "the reader's prompt began")
        await call.event(native_event(WRITTEN + "done", "stop", (PROMPT_TOKENS, OUTPUT_TOKENS)))
        await call.done()


def lacking(modules: tuple[str, ...]) -> list[str]:
    """Which of the modules the examples' Python has not."""
    code = "import sys, importlib.util as u; print(*(m for m in sys.argv[1:] if u.find_spec(m) is None))"
    told = subprocess.run([PYTHON, "-c", code, *modules], capture_output=True, text=True, check=True)
    return told.stdout.split()


@pytest.mark.parametrize("name", NEEDED)
def test_a_dependent_is_spliced(name: str) -> None:
    if missing := lacking(NEEDED[name]):
        pytest.skip(f"{PYTHON} has no {', '.join(missing)}")
    agents = Writers()
    with threaded(agents.pair) as router:
        command = [PYTHON, str(ROOT / "examples" / f"{name}.py"), router.url, "fake"]
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "client"),
            "OPENAI_API_KEY": "unused",
            "LANGSMITH_TRACING": "false",
        }
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
        assert done.returncode == 0, done.stderr
        found = re.search(r"/runs/(\w+)/timeline", done.stdout)
        assert found is not None
        trace = httpx.get(f"{router.url}/runs/{found[1]}", timeout=60).json()
    by_reading = {bool(agent["reads"]): agent for agent in trace["agents"]}
    assert [agent["state"] for agent in trace["agents"]] == ["done"] * 3
    assert sorted(by_reading[True]["reads"]) == ["con", "pro"]
    assert by_reading[True]["began"] < by_reading[False]["end"]
    assert agents.writing_at_reader > 0, "a segment of the reader's prompt was there before the writers ended"
    last = max((Agents.prompt(call) for call in agents.pair.decode.requests), key=len)
    assert last.count(WRITTEN + "done") == 2
