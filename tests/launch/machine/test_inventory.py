"""What the machine has."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from launch.errors import LaunchError
from launch.machine import host_memory
from launch.machine.gpus import Gpu
from launch.machine.inventory import Inventory
from launch.machine.units import GIB


class FakeNvml(SimpleNamespace):
    """Three GPUs, of which the first half is in use."""

    def __init__(self, *, driver: bool = True) -> None:
        super().__init__(open=0, driver=driver)

    def nvmlInit(self) -> None:
        if not self.driver:
            raise OSError("NVML Shared Library Not Found")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return 3

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(total=100 * GIB, free=(50 + handle) * GIB)

    def nvmlDeviceGetName(self, handle: int) -> str:
        return f"GPU model {handle}"

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}abc-def"


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake


def test_gpus_are_found_with_their_free_memory(nvml: FakeNvml) -> None:
    found = Inventory.detect()
    assert found.gpus[1] == Gpu(1, "GPU model 1", 100 * GIB, 51 * GIB)
    assert found.device == "gpu"
    assert nvml.open == 0


@pytest.mark.parametrize(
    ("visible", "indexes"),
    [("", []), ("-1", []), ("2,0", [2, 0]), ("0, 1", [0, 1]), ("1,9,0", [1]), ("GPU-2abc", [2]), ("0,0", [0])],
)
def test_only_visible_gpus_count(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, visible: str, indexes: list[int]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.index for gpu in Inventory.detect().gpus] == indexes


def test_a_part_of_a_gpu_is_refused(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1234")
    with pytest.raises(LaunchError, match="MIG instance MIG-1234"):
        Inventory.detect()


def test_without_driver_or_library_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(driver=False))
    assert Inventory.detect().gpus == ()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = Inventory.detect()
    assert (found.gpus, found.device) == ((), "cpu")
    assert 0 < found.memory_free_bytes <= found.memory_bytes
    assert found.cores >= 1


@pytest.mark.parametrize(
    ("own", "base", "limit", "usage", "cache"),
    [
        ("0::/outer/inner", "", "memory.max", "memory.current", "inactive_file"),
        ("4:memory:/outer/inner", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ],
    ids=["v2", "v1"],
)
def test_limits_of_control_groups_are_read(
    tmp_path: Path, own: str, base: str, limit: str, usage: str, cache: str
) -> None:
    group = tmp_path / "fs" / base / "outer"
    (group / "inner").mkdir(parents=True)
    (group / limit).write_text("1000\n")
    (group / usage).write_text("700\n")
    (group / "memory.stat").write_text(f"anon 1\n{cache} 200\n")
    (group / "inner" / limit).write_text("max\n")
    (tmp_path / "own").write_text(f"3:cpuset:/x\n{own}\n")
    assert list(host_memory.cgroup_limits(tmp_path / "fs", tmp_path / "own")) == [(1000, 500)]
    assert list(host_memory.cgroup_limits(tmp_path / "fs", tmp_path / "none")) == []


def test_a_container_limit_lowers_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "cgroup_limits", lambda: iter([(3 * GIB, GIB)]))
    found = Inventory.detect()
    assert (found.memory_bytes, found.memory_free_bytes) == (3 * GIB, 2 * GIB)
