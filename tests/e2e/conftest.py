"""One set of running servers for all end-to-end tests: two P/D pairs, their router, a plain server.

All serve the first layers of SmolLM2 in float32, where greedy output does not flip on near-ties. The pairs are forked,
as the launcher does it on a CPU; the plain server is a fresh `python -m sglang.launch_server`. It and the second pair
have pages of 16 tokens, so that both start paths and both KV allocators are exercised.

Where several processes share the tests, one of them starts these servers first of all and has all tests that need
them, while another one is busy with the others (`tests/conftest.py`).
"""

import asyncio
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from launch.config.schema import LaunchConfig, ModelConfig
from launch.machine.inventory import Inventory
from launch.machine.ports import free_ports
from launch.moa.trees_file import trees_json
from launch.models.packaged import prepare
from launch.planning.plan import make_plan
from launch.processes.base import Command
from launch.processes.exit_error import raise_if_exited
from launch.processes.spawn import SpawnedProcess, Spawner
from launch.processes.teardown import kill_all
from launch.supervision.readiness import wait_until_ready
from launch.supervision.supervisor import Supervisor
from router.http_client.origin import Origin
from tests.e2e.fewer_layers import first_layers
from tests.e2e.servers import MODEL, Servers

PAGED = "smol-paged"
LAYERS = 8  # of 30
CONTEXT = 2048
CHUNK = 128  # tokens that prefill takes at once
TTL = 20.0  # seconds that an open prompt lives without a word


def small_tree() -> dict[str, Any]:
    """Two clusters of three greedy proposers, the last of each a long-winded one; declared order."""

    def agent(name: str, tokens: int, *reads: str) -> dict[str, Any]:
        greedy = {"temperature": 0.0, "ignore_eos": True}
        return {"name": name, "model": MODEL, "max_tokens": tokens, "reads": reads, "sampling": greedy}

    proposers: list[dict[str, Any]] = [
        {"name": f"c{c}", "agents": [agent(f"p{c}{i}", tokens) for i, tokens in ((1, 12), (2, 16), (3, 48))]}
        for c in (1, 2)
    ]
    for cluster in proposers:
        for i, each in enumerate(cluster["agents"]):
            each["role"] = f"You are helper {i}. Answer in {('one word', 'two words', 'many words')[i]}."
    middle = {"name": "mid", "agents": [agent(f"m{c}", 12, f"c{c}") for c in (1, 2)]}
    end = {"name": "end", "agents": [agent("final", 12, "mid")]}
    layers = [{"clusters": proposers}, {"clusters": [middle]}, {"clusters": [end]}]
    return {"name": "small", "arm": "tree", "order": "declared", "layers": layers}


def tiny_tree() -> dict[str, Any]:
    """Two greedy proposers with few words and who reads them; declared order."""
    greedy = {"model": MODEL, "sampling": {"temperature": 0.0}}
    proposers = [{"name": name, "max_tokens": 6, **greedy} for name in ("p1", "p2")]
    final = {"name": "final", "max_tokens": 8, "reads": ["proposers"], **greedy}
    clusters = [{"name": "proposers", "agents": proposers}], [{"name": "end", "agents": [final]}]
    return {"name": "tiny", "order": "declared", "layers": [{"clusters": each} for each in clusters]}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return first_layers(prepare("smollm2"), LAYERS, tmp_path_factory.mktemp("models") / "smollm2")


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[dict[str, Servers]]:
    logs = tmp_path_factory.mktemp("logs")
    chunks = ["--chunked-prefill-size", f"{CHUNK}"]
    pages = ["--page-size", "16"]
    model = partial(ModelConfig, path=str(model_folder), dtype="float32")
    config = LaunchConfig(
        models=[
            model(name=MODEL, prefill_args=chunks),
            model(name=PAGED, prefill_args=chunks + pages, decode_args=pages),
        ],
        context_length=CONTEXT,
        max_total_tokens=4096,
        env={"SGLANG_EXT_OPEN_PROMPT_TTL": f"{TTL:g}"},
    )
    trees = logs / "trees.json"
    shown = trees_json(config, "cpu")
    for agent in (each for layer in shown["trees"][0]["layers"] for c in layer["clusters"] for each in c["agents"]):
        agent |= {"max_tokens": 24, "sampling": {"ignore_eos": True}}
    shown["trees"] += [small_tree(), tiny_tree()]
    trees.write_bytes(orjson.dumps(shown))
    # Away from the ports of launches, and from those of other runs of the tests.
    ports = free_ports(start=31000 + os.getpid() % 40 * 20)
    plan = make_plan(config, Inventory.detect(), ports=lambda: next(ports), router_port=next(ports))
    supervisor = Supervisor(plan, logs, trees, print, fork=True)
    with asyncio.Runner() as runner:
        plain_port = next(ports)
        plain = runner.run(_start_plain(model_folder, plain_port, next(ports), logs))
        try:
            runner.run(supervisor.start())
            base = f"http://127.0.0.1:{plain_port}"
            runner.run(wait_until_ready(Origin(base), "/model_info", lambda: raise_if_exited(plain), seconds=900))
            found = {}
            for prefill, decode in zip(plan.servers[::2], plan.servers[1::2], strict=True):
                assert prefill.bootstrap_port is not None
                found[prefill.model.name] = Servers(
                    router=supervisor.router.url,
                    prefill=f"http://127.0.0.1:{prefill.port}",
                    decode=f"http://127.0.0.1:{decode.port}",
                    plain=base,
                    bootstrap_port=prefill.bootstrap_port,
                    model=prefill.model.name,
                    prefill_log=logs / f"{prefill.name}.log",
                    decode_log=logs / f"{decode.name}.log",
                )
            yield found
        finally:
            runner.run(kill_all([plain]))
            runner.run(supervisor.stop())


@pytest.fixture(scope="session")
def servers(running: dict[str, Servers]) -> Servers:
    """The pair with pages of one token."""
    return running[MODEL]


@pytest.fixture(scope="session")
def paged(running: dict[str, Servers]) -> Servers:
    """The pair with pages of 16 tokens."""
    return running[PAGED]


@pytest.fixture(params=["pages of 1", "pages of 16"])
def pair(request: pytest.FixtureRequest, servers: Servers, paged: Servers) -> Servers:
    """Each of the two pairs."""
    return servers if request.param == "pages of 1" else paged


async def _start_plain(model: Path, port: int, nccl_port: int, logs: Path) -> SpawnedProcess:
    argv = ["--model-path", str(model), "--dtype", "float32", "--page-size", "16", "--port", str(port)]
    argv += ["--nccl-port", str(nccl_port)]  # one that SGLang finds by itself may be taken before it listens there
    argv += ["--max-total-tokens", "4096", "--context-length", str(CONTEXT), "--max-running-requests", "16"]
    argv += ["--served-model-name", MODEL, "--skip-server-warmup"]
    return await Spawner("sglang.launch_server").start(
        Command("plain", tuple(argv), {"OMP_NUM_THREADS": "1"}, logs / "plain.log")
    )
