"""A pair whose servers have two data-parallel ranks each, behind a router with `--dp-aware`."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from launch.config.schema import LaunchConfig, ModelConfig
from launch.planning.server_flags import server_argv
from launch.processes.base import Command, Process
from launch.processes.exit_error import raise_if_exited
from launch.processes.teardown import kill_all
from launch.processes.zygote import Zygote
from launch.supervision.readiness import wait_until_ready
from router.http_client.origin import Origin
from router.workers.worker import PAIR_ROLES, Role
from tests.e2e.conftest import CONTEXT
from tests.e2e.routers import OwnRouter, own_router
from tests.e2e.servers import MODEL, TIMEOUT, Servers, is_quiet, long_text, post, wait_for
from tests.router.support.processes import free_port

RANKS = 2


@pytest.fixture(scope="module")
def ranked(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The pair; `plain` and `router` have no server."""
    logs = tmp_path_factory.mktemp("ranks")
    ports = {role: free_port() for role in ("prefill", "decode", "bootstrap", "nccl")}
    with asyncio.Runner() as runner:
        started: list[Process] = []
        zygote = Zygote({"OMP_NUM_THREADS": "1"}, logs / "zygote.log")
        try:
            for role in PAIR_ROLES:
                started.append(runner.run(zygote.start(_command(model_folder, role, ports, logs))))
                origin = Origin(f"http://127.0.0.1:{ports[role]}")
                runner.run(wait_until_ready(origin, "/model_info", partial(raise_if_exited, started[-1]), seconds=900))
            yield Servers(
                router="",
                prefill=f"http://127.0.0.1:{ports['prefill']}",
                decode=f"http://127.0.0.1:{ports['decode']}",
                plain="",
                bootstrap_port=ports["bootstrap"],
                model=MODEL,
                prefill_log=logs / "prefill.log",
                decode_log=logs / "decode.log",
            )
        finally:
            runner.run(kill_all(started))
            runner.run(zygote.close())


def _command(model: Path, role: Role, ports: dict[str, int], logs: Path) -> Command:
    named = ModelConfig(name=MODEL, path=str(model), dtype="float32")
    argv = server_argv(
        LaunchConfig(models=[named], context_length=CONTEXT),
        named,
        role,
        model_path=str(model),
        on_gpu=False,
        host="127.0.0.1",
        port=ports[role],
        bootstrap_port=ports["bootstrap"] if role == "prefill" else None,
        nccl_port=ports["nccl"],
        kv_tokens=2048,
    )
    at = argv.index("--nccl-port")  # of two ranks each needs one, so SGLang finds them
    argv = (*argv[:at], *argv[at + 2 :], "--dp-size", str(RANKS))
    return Command(role, argv, {}, logs / f"{role}.log")


@pytest.fixture
def router(ranked: Servers) -> Iterator[OwnRouter]:
    with own_router(ranked, "--dp-aware", "--policy", "cache_aware", "--disable-retries") as one:
        yield one


def ask(router: OwnRouter, text: str) -> dict[str, int]:
    """The counts of one answer."""
    answer = post(f"{router.url}/generate", {"text": text, "sampling_params": {"max_new_tokens": 4, "temperature": 0}})
    assert answer.status_code == 200, answer.text
    meta: dict[str, int] = answer.json()["meta_info"]
    return meta


def test_prompts_with_one_beginning_find_it_cached(ranked: Servers, router: OwnRouter) -> None:
    """Each beginning is on one rank; SGLang by itself would send every other request to the other one."""
    for topic in ("Rivers", "Mountains", "Forests", "Towns"):
        told = [ask(router, f"{long_text(topic)} {number}") for number in range(4)]
        assert all(meta["cached_tokens"] > meta["prompt_tokens"] // 2 for meta in told[1:]), told
    assert wait_for(lambda: is_quiet(ranked.prefill) and is_quiet(ranked.decode))
    assert "follow_bootstrap_room conflict" not in ranked.prefill_log.read_text(errors="replace")


def test_both_ranks_of_a_server_work_in_turn(ranked: Servers) -> None:
    with own_router(ranked, "--dp-aware", "--policy", "round_robin", "--workers", "1", "--disable-retries") as in_turn:
        answers = [ask(in_turn, f"{long_text(f'Number {number}', 4)}")["dp_rank"] for number in range(2 * RANKS)]
    assert sorted(answers) == sorted([*range(RANKS)] * 2), "decode's ranks"
    assert wait_for(lambda: is_quiet(ranked.prefill) and is_quiet(ranked.decode))


def test_a_rank_that_a_client_names_is_refused(router: OwnRouter) -> None:
    answer = httpx.post(f"{router.url}/generate", json={"text": "x", "routed_dp_rank": 1}, timeout=TIMEOUT)
    assert answer.status_code == 400
    assert "leave it out" in answer.json()["error"]["message"]
