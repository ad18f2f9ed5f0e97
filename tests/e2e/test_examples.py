"""The examples as their readers run them, on the real pair."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.servers import TIMEOUT, Servers

EXAMPLES = Path(__file__).parents[2] / "examples"
TRIES = 5


@pytest.mark.parametrize("name", ["placeholders.py", "langgraph_agents.py"])
def test_three_agents_of_another_framework(servers: Servers, name: str) -> None:
    command = [sys.executable, str(EXAMPLES / name), servers.router, servers.model]
    env = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent / "client")}
    for _ in range(TRIES):  # the small model may say nothing, or be done before the reader has come
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False, env=env)
        assert done.returncode == 0, done.stderr
        said, _, told = done.stdout.partition("what each of them did, and when: ")
        found = re.search(r"/runs/(\w+)/timeline", told)
        assert found is not None
        trace = httpx.get(f"{servers.router}/runs/{found[1]}", timeout=TIMEOUT).json()
        by_reading = {bool(agent["reads"]): agent for agent in trace["agents"]}
        assert len(trace["agents"]) == 3
        assert {agent["state"] for agent in trace["agents"]} == {"done"}
        together = by_reading[True]["began"] < by_reading[False]["end"]
        if said.strip() and together:
            break
    assert said.strip()
    assert together, "the reader's request was there while the others wrote"
