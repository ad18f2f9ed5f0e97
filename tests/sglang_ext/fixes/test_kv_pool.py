"""The KV pool has the planned size, whatever is free when the server starts."""

from types import SimpleNamespace
from typing import Any

import pytest

from sglang_ext.errors import BadSetting, NoMemory
from sglang_ext.fixes import kv_pool
from sglang_ext.fixes.kv_pool import KV_POOL_BYTES, kv_pool_bytes, size_as_planned

GIB = 1 << 30


def configurator(**changes: Any) -> Any:
    return SimpleNamespace(mambaish_config=None, **changes)


def upstream(configurator: Any, pre_model_load_memory: float) -> int:
    """Not called where a pool is planned."""
    return 7


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What is free on the GPU: a fake, since there is no GPU that other servers could fill."""
    free = {"bytes": 100 * GIB}
    monkeypatch.setattr(kv_pool, "_free_bytes", lambda _: free["bytes"])
    return free


def test_without_a_plan_sglang_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KV_POOL_BYTES, raising=False)
    assert size_as_planned(upstream, configurator(), 100.0) == 7


@pytest.mark.parametrize("free_gib", [9, 40, 100])
def test_a_restart_beside_others_gets_the_same_pool(
    monkeypatch: pytest.MonkeyPatch, free: dict[str, int], free_gib: int
) -> None:
    monkeypatch.setenv(KV_POOL_BYTES, str(9 * GIB))
    free["bytes"] = free_gib * GIB
    assert size_as_planned(upstream, configurator(), free_gib + 16.0) == 9 * GIB


def test_too_little_memory_is_one_sentence(monkeypatch: pytest.MonkeyPatch, free: dict[str, int]) -> None:
    monkeypatch.setenv(KV_POOL_BYTES, str(9 * GIB))
    free["bytes"] = -GIB  # what SGLang's shares leave on a shared GPU can be negative
    with pytest.raises(NoMemory, match=r"a KV pool of 9\.00 GiB, but -1\.00 GiB are free after the weights"):
        size_as_planned(upstream, configurator(), 16.0)


def test_states_of_linear_attention_are_a_part_of_the_plan(
    monkeypatch: pytest.MonkeyPatch, free: dict[str, int]
) -> None:
    monkeypatch.setenv(KV_POOL_BYTES, str(8 * GIB))
    hybrid = configurator(_handle_max_mamba_cache=lambda gib: gib / 2)
    hybrid.mambaish_config = object()
    assert size_as_planned(upstream, hybrid, 16.0) == 4 * GIB


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "9G", "²"])
def test_a_size_that_is_no_number_of_bytes_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(KV_POOL_BYTES, text)
    with pytest.raises(BadSetting, match="must be a number of bytes above 0"):
        kv_pool_bytes()
