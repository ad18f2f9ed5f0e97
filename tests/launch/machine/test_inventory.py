"""What the machine has."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launch.config.schema import LaunchConfig, ModelConfig
from launch.errors import LaunchError
from launch.machine import host_memory
from launch.machine.gpus import Gpu, process_bytes
from launch.machine.inventory import Inventory
from launch.machine.units import GIB
from launch.pd import main
from launch.planning.dry_run import render
from launch.planning.plan import make_plan
from tests.launch.machines import port_counter


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

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=(pid + handle) * GIB) for pid in (10, 20)]

    def nvmlDeviceGetMPSComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=30, usedGpuMemory=None if handle else 5 * GIB)]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    return fake


class NVMLError(Exception):
    """As pynvml's: `value` is the code of the C library."""

    def __init__(self, value: int) -> None:
        super().__init__({3: "Not Supported", 15: "GPU is lost"}[value])
        self.value = value


def fail(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, function: str, code: int, *indexes: int) -> None:
    """Let a function of NVML fail for some GPUs, or always where none is named."""
    working: Any = getattr(nvml, function)

    def failing(*arguments: int) -> Any:
        if not indexes or arguments[0] in indexes:
            raise NVMLError(code)
        return working(*arguments)

    monkeypatch.setattr(nvml, function, failing)


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


@pytest.mark.case("10.nvml_not_supported")
def test_public_case_a_gpu_without_memory_of_its_own_has_the_hosts(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launch.machine.gpus.host_memory", lambda: (128 * GIB, 120 * GIB))
    for function in ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetName", "nvmlDeviceGetUUID"):
        fail(nvml, monkeypatch, function, 3, 0)
    found = Inventory.detect()
    assert found.gpus[0] == Gpu(0, "GPU", 128 * GIB, 120 * GIB)
    assert found.gpus[1] == Gpu(1, "GPU model 1", 100 * GIB, 51 * GIB)
    assert found.notes == ()
    assert nvml.open == 0


@pytest.mark.case("10.nvml_not_supported")
@pytest.mark.parametrize(
    ("function", "code"),
    [
        ("nvmlDeviceGetHandleByIndex", 3),
        ("nvmlDeviceGetMemoryInfo", 15),
        ("nvmlDeviceGetName", 15),
        ("nvmlDeviceGetUUID", 15),
    ],
)
def test_public_case_one_gpu_that_nvml_does_not_describe_is_left_out(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, function: str, code: int
) -> None:
    fail(nvml, monkeypatch, function, code, 1)
    found = Inventory.detect()
    assert [gpu.index for gpu in found.gpus] == [0, 2]
    assert found.notes == (f"GPU 1 is left out: NVML does not describe it ({NVMLError(code)}).",)
    config = LaunchConfig(models=[ModelConfig(name="m", shape="qwen3-0.6b")], context_length=64)
    assert found.notes[0] in render(make_plan(config, found, ports=port_counter()), found)


@pytest.mark.case("10.nvml_not_supported")
@pytest.mark.parametrize("function", ["nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"])
def test_public_case_no_gpu_that_nvml_describes_is_one_sentence(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], function: str
) -> None:
    fail(nvml, monkeypatch, function, 3)
    assert main(["--dry-run", "--model", "builtin:smollm2"]) == 2
    said = capsys.readouterr().err
    assert "Not Supported" in said
    assert "CUDA_VISIBLE_DEVICES to nothing" in said
    assert len(said.strip().splitlines()) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Inventory.detect().device == "cpu"


@pytest.mark.case("10.nvml_bytes")
def test_public_case_names_that_nvml_gives_as_bytes(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "nvmlDeviceGetName", lambda handle: f"GPU model {handle}".encode())
    monkeypatch.setattr(nvml, "nvmlDeviceGetUUID", lambda handle: f"GPU-{handle}abc-def".encode())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-2abc")
    assert Inventory.detect().gpus == (Gpu(2, "GPU model 2", 100 * GIB, 52 * GIB),)


@pytest.mark.case("10.device_order")
@pytest.mark.parametrize(
    ("order", "visible", "alike", "said"),
    [
        ("FASTEST_FIRST", "1", False, True),
        ("FASTEST_FIRST", "0,1", True, True),
        (None, "1", False, True),
        (None, "1", True, False),
        ("PCI_BUS_ID", "1", False, False),
        ("FASTEST_FIRST", "GPU-1abc", False, False),
        ("FASTEST_FIRST", None, False, False),
    ],
)
def test_public_case_a_number_that_cuda_may_read_otherwise_is_said(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, order: str | None, visible: str | None, alike: bool, said: bool
) -> None:
    for name, value in (("CUDA_DEVICE_ORDER", order), ("CUDA_VISIBLE_DEVICES", visible)):
        if value is not None:
            monkeypatch.setenv(name, value)
    if alike:
        monkeypatch.setattr(nvml, "nvmlDeviceGetName", lambda handle: "GPU model")
    found = Inventory.detect()
    config = LaunchConfig(models=[ModelConfig(name="m", shape="qwen3-0.6b")], context_length=64)
    text = render(make_plan(config, found, ports=port_counter()), found)
    note = f"note: CUDA_VISIBLE_DEVICES={visible} is read in the order of the PCI bus, as nvidia-smi lists the GPUs"
    assert (note in text) == said
    assert text.count("CUDA_DEVICE_ORDER=PCI_BUS_ID") == 2 + said, "each server, and the advice"


@pytest.mark.parametrize(
    ("indexes", "pids", "expected"),
    [
        ((0,), [10, 11], 10),
        ((0, 1), [10, 20], 10 + 20 + 11 + 21),
        ((0,), [30], 5),
        ((1,), [30], None),  # listed without its memory
        ((0,), [11], None),  # as in a container, whose numbers are others
        ((0,), [], None),
    ],
)
def test_memory_of_processes(nvml: FakeNvml, indexes: tuple[int, ...], pids: list[int], expected: int | None) -> None:
    assert process_bytes(indexes, pids) == (None if expected is None else expected * GIB)
    assert nvml.open == 0


def test_memory_of_processes_that_nvml_does_not_tell(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(nvml, monkeypatch, "nvmlDeviceGetMPSComputeRunningProcesses", 3)
    assert process_bytes((0,), [10, 30]) == 10 * GIB
    fail(nvml, monkeypatch, "nvmlDeviceGetComputeRunningProcesses", 3)
    assert process_bytes((0,), [10]) is None
    nvml.driver = False
    assert process_bytes((0,), [10]) is None
