"""The command line and environment of a server."""

import importlib.util
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from launch.config.loading import load_config
from launch.config.schema import LaunchConfig, ModelConfig
from launch.machine.inventory import Inventory
from launch.planning.plan import Plan, ServerPlan, make_plan
from tests.launch.machines import cpu_machine, empty_gpus, flag, port_counter, requirement_of

OURS = ("SGLANG_PLATFORM", "SGLANG_EXT_KV_POOL_BYTES")


def plan_of(config: LaunchConfig, inventory: Inventory) -> Plan:
    return make_plan(config, inventory, ports=port_counter())


def all_servers() -> list[ServerPlan]:
    wide = LaunchConfig(models=[ModelConfig(name="w", shape="qwen3-8b", tp=2, dtype="float16")], context_length=64)
    plans = [
        plan_of(load_config(None, device="cpu"), cpu_machine(20)),
        plan_of(load_config(None, device="gpu"), empty_gpus(8)),
        plan_of(load_config(Path("h200-dummy"), device="gpu"), empty_gpus(1)),
        plan_of(wide, empty_gpus(2)),
    ]
    return [server for plan in plans for server in plan.servers]


def test_every_flag_and_variable_is_one_that_sglang_reads() -> None:
    spec = importlib.util.find_spec("sglang")
    if spec is None or spec.origin is None:
        pytest.skip("SGLang is not installed")
    srt = Path(spec.origin).parent / "srt"
    source = (srt / "server_args.py").read_text()
    # A flag is a field of ServerArgs, or spelt out as an alias.
    known = {f"--{name.replace('_', '-')}" for name in re.findall(r"^    (\w+): A\[", source, re.MULTILINE)}
    known |= set(re.findall(r'"(--[a-z-]+)"', source))
    variables = (srt / "environ.py").read_text()
    for server in all_servers():
        flags = {word for word in server.argv if word.startswith("--")}
        assert flags <= known, server.name
        for name in server.env:
            assert not name.startswith("SGLANG_") or f"{name} = " in variables or name in OURS


def test_a_gpu_pair() -> None:
    prefill, decode = plan_of(load_config(None, device="gpu"), empty_gpus(8)).servers[:2]
    for server in (prefill, decode):
        assert flag(server, "--model-path") == "Qwen/Qwen3-4B"
        assert flag(server, "--served-model-name") == "qwen3-4b"
        assert flag(server, "--attention-backend") == "flashinfer"
        assert flag(server, "--sampling-backend") == "flashinfer"
        assert flag(server, "--disaggregation-transfer-backend") == "nixl"
        assert flag(server, "--disaggregation-mode") == server.role
        assert flag(server, "--page-size") == "16"
        assert flag(server, "--max-total-tokens") == str(server.kv_tokens)
        assert json.loads(flag(server, "--preferred-sampling-params")) == server.model.sampling
        assert "--skip-server-warmup" in server.argv
        assert "--load-format" not in server.argv
        assert server.env == {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "CUDA_VISIBLE_DEVICES": str(server.gpus[0]),
            "SGLANG_EXT_KV_POOL_BYTES": str(server.kv_tokens * requirement_of(server).kv_bytes_per_token),
        }
    assert "--disaggregation-decode-enable-radix-cache" not in prefill.argv
    assert "--cuda-graph-bs-prefill 16 32 64" in " ".join(prefill.argv)
    assert flag(prefill, "--cuda-graph-backend-prefill") == "full"
    assert "--cuda-graph-bs-decode" not in prefill.argv
    assert flag(decode, "--cuda-graph-backend-prefill") == "disabled"
    # A batch as large as the server runs has a graph, and none is padded to more than twice its size.
    sizes = " ".join(decode.argv).split("--cuda-graph-bs-decode ")[1].split(" --")[0].split()
    graphs = [int(size) for size in sizes]
    assert graphs[-1] == int(flag(decode, "--max-running-requests")) == 256
    assert all(larger <= 2 * smaller for smaller, larger in pairwise(graphs))


def test_dummy_weights() -> None:
    server = plan_of(load_config(Path("h200-dummy"), device="gpu"), empty_gpus(1)).servers[0]
    assert flag(server, "--load-format") == "dummy"
    assert "--skip-tokenizer-init" in server.argv
    assert flag(server, "--model-path") == "dummy:qwen3-4b"


def test_the_caller_decides_where_a_model_lies() -> None:
    asked = []

    def model_path_of(model: ModelConfig) -> str:
        asked.append(model.name)
        return f"/cache/{model.shape}"

    config = load_config(Path("h200-dummy"), device="gpu")
    plan = make_plan(config, empty_gpus(1), ports=port_counter(), model_path_of=model_path_of)
    assert flag(plan.servers[3], "--model-path") == "/cache/qwen3-8b"
    assert asked == [model.name for model in config.models]


def test_the_users_flags_come_last_and_go_to_their_role() -> None:
    model = ModelConfig(name="m", shape="qwen3-4b", prefill_args=["--a", "1"], decode_args=["--b=2"])
    config = LaunchConfig(models=[model], context_length=64, server_args=["--c"], env={"OMP_NUM_THREADS": "4"})
    prefill, decode = plan_of(config, cpu_machine(30)).servers
    assert prefill.argv[-3:] == ("--c", "--a", "1")
    assert decode.argv[-2:] == ("--c", "--b=2")
    assert prefill.env["OMP_NUM_THREADS"] == "4"
