"""How many processes a router has by itself."""

from pathlib import Path

import pytest

from router.cli.parser import parse
from router.server.processes.default_count import MAX_DEFAULT_PROCESSES, available_cores, default_process_count

PAIR = ["--pd-disaggregation", "--prefill", "http://127.0.0.1:1", "8998", "--decode", "http://127.0.0.1:2"]
IN_TURN = ["--policy", "round_robin"]


def count(*flags: str, cores: int = 64) -> int:
    return default_process_count(parse([*PAIR, *flags]), cores)


@pytest.mark.parametrize(
    "policy",
    [
        "cache_aware",
        "consistent_hashing",
        "least_load",
        "passthrough",
        "power_of_two",
        "prefix_hash",
        "random",
        "round_robin",
    ],
)
def test_one_for_each_core_where_processes_choose_alike_or_tell_each_other(policy: str) -> None:
    assert count("--policy", policy, cores=2) == count(cores=2) == 2
    assert count("--policy", policy) == MAX_DEFAULT_PROCESSES
    assert count("--policy", policy, cores=1) == 1


@pytest.mark.parametrize(
    "flags",
    [
        ["--policy", "manual"],
        ["--max-tree-size", "1000"],
        [*IN_TURN, "--decode-policy", "predicted_latency"],
        [
            "--policy",
            "bucket",
            "--prefill-policy",
            "random",
            "--decode-policy",
            "random",
        ],  # plain servers' is left
        [*IN_TURN, "--max-concurrent-requests", "100"],
        [*IN_TURN, "--rate-limit-tokens-per-second", "100"],
        [*IN_TURN, "--pd-admission-wait-secs", "5"],
        [*IN_TURN, "--prefill-max-inflight-requests-per-worker", "5"],
        [*IN_TURN, "--api-keys-file", "keys.yaml"],
        [*IN_TURN, "--trees", "dense"],
        [*IN_TURN, "--log-dir", "logs"],
        [*IN_TURN, "--max-runs-per-client", "8"],
        [*IN_TURN, "--queue-size", "2"],
        [*IN_TURN, "--cb-failure-threshold", "3"],
        [*IN_TURN, "--max-body-bytes-in-flight", "1000000"],
    ],
)
def test_one_where_several_would_do_worse(flags: list[str]) -> None:
    assert count(*flags) == 1


def test_a_model_of_embeddings_is_no_limit() -> None:
    assert count(*IN_TURN, "--embedding-model", "elsewhere") == MAX_DEFAULT_PROCESSES


@pytest.mark.parametrize(
    ("quota", "cores"), [("100000 100000", 1), ("150000 100000", 2), ("max 100000", 64), (None, 64)]
)
def test_a_container_has_no_more_cores_than_its_quota(
    quota: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    assert available_cores(tmp_path) == cores
