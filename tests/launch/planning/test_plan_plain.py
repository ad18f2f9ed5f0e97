"""Plans with plain servers: SGLang and vLLM, alone and beside pairs."""

import shlex
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from launch.config.schema import LaunchConfig, ModelConfig
from launch.errors import PlanError
from launch.machine.inventory import Inventory
from launch.machine.units import GIB
from launch.models.lookup import shape_of
from launch.planning.dry_run import command_line, render
from launch.planning.plan import Plan, ServerPlan, make_plan
from launch.planning.reserve import reserved_bytes
from launch.planning.router_flags import router_argv
from tests.launch.machines import cpu_machine, empty_gpus, flag, gpu_machine, port_counter, requirement_of

TREES = Path("/logs/trees.json")


def config_of(*models: dict[str, Any], **more: Any) -> LaunchConfig:
    return LaunchConfig(models=[ModelConfig(**model) for model in models], **{"context_length": 4096, **more})


def plan_of(config: LaunchConfig, inventory: Inventory) -> Plan:
    return make_plan(config, inventory, ports=port_counter())


def only(plan: Plan) -> ServerPlan:
    (server,) = plan.servers
    return server


SMOL = {"path": "builtin:smollm2"}
PAIR: dict[str, Any] = {"name": "pair", **SMOL}
PLAIN: dict[str, Any] = {"name": "plain", **SMOL, "disaggregated": False}
VLLM: dict[str, Any] = {"name": "other", **SMOL, "engine": "vllm", "vllm_python": "/bin/sh"}


def test_pairs_and_plain_servers_stand_behind_one_router() -> None:
    plan = plan_of(config_of(PAIR, PLAIN, VLLM, router_args=["--log-level", "debug"]), cpu_machine(20))
    assert [server.name for server in plan.servers] == ["pair-prefill", "pair-decode", "plain-plain", "other-plain"]
    assert [len(wave) for wave in plan.waves()] == [1] * 4
    prefill, decode, plain, vllm = plan.servers
    assert " ".join(router_argv(plan, TREES)) == (
        f"--pd-disaggregation --host 127.0.0.1 --port {plan.router_port} --trees /logs/trees.json "
        f"--worker-probe-interval 2 --prefill http://127.0.0.1:{prefill.port} {prefill.bootstrap_port} "
        f"--decode http://127.0.0.1:{decode.port} "
        f"--worker-urls http://127.0.0.1:{plain.port} http://127.0.0.1:{vllm.port} --log-level debug"
    )
    ports = [plan.router_port, *(server.port for server in plan.servers)]
    ports += [int(flag(server, "--nccl-port")) for server in plan.servers[:3]]
    assert len(set(ports)) == len(ports)


def test_without_pairs_the_router_is_told_of_none() -> None:
    plan = plan_of(config_of(PLAIN), cpu_machine(20))
    argv = router_argv(plan, TREES)
    assert "--pd-disaggregation" not in argv
    assert argv[-2:] == ("--worker-urls", f"http://127.0.0.1:{only(plan).port}")


def test_a_plain_sglang_server_on_a_cpu_is_one_half_without_the_other() -> None:
    plain = only(plan_of(config_of(PLAIN | {"server_args": ["--mine"]}, server_args=["--all"]), cpu_machine(20)))
    decode = plan_of(config_of(PLAIN | {"disaggregated": True}), cpu_machine(20)).servers[1]
    assert not [word for word in plain.argv if word.startswith("--disaggregation")]
    assert plain.bootstrap_port is None
    assert plain.argv[-2:] == ("--all", "--mine")
    assert plain.memory_bytes == decode.memory_bytes, "one pool, one process"
    assert plain.env == decode.env
    assert "python -m sglang.launch_server --model-path" in command_line(plain)


def test_a_plain_sglang_server_on_a_gpu_has_the_graphs_of_both_halves() -> None:
    config = config_of({"name": "m", "shape": "qwen3-8b", "disaggregated": False}, attention_backend="flashinfer")
    plan = plan_of(config, empty_gpus(1))
    argv = " ".join(only(plan).argv)
    assert "--cuda-graph-bs-prefill 16 32" in argv
    assert "--cuda-graph-bs-decode 1 2 4" in argv
    assert "--cuda-graph-backend-prefill" not in argv, "what only segments need is experimental"
    prefill, decode = plan_of(config_of({"name": "m", "shape": "qwen3-8b"}), empty_gpus(2)).servers
    plain, halves = requirement_of(only(plan)), [requirement_of(server) for server in (prefill, decode)]
    assert plain.runtime_bytes > max(half.runtime_bytes for half in halves)
    assert any("m has neither tokenizer nor pair" in note for note in plan.notes)


def test_a_vllm_server_on_a_cpu() -> None:
    server = only(plan_of(config_of(VLLM | {"sampling": {"top_k": 3, "temperature": 0.5}}), cpu_machine(20)))
    assert server.argv == (
        *("serve", "builtin:smollm2", "--served-model-name", "other", "--host", "127.0.0.1", "--port", "30001"),
        *("--max-model-len", "4096", "--dtype", "auto", "--uvicorn-log-level", "warning"),
        *("--enforce-eager", "--max-num-seqs", "16"),
        *("--override-generation-config", '{"temperature": 0.5, "top_k": 3}'),
    )
    assert server.env == {
        "CUDA_VISIBLE_DEVICES": "-1",
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_TARGET_DEVICE": "cpu",
    }
    # Whole GiB: two contexts of 23,040 bytes a token are less than one.
    assert server.kv_tokens == GIB // 23040
    assert server.memory_bytes == GIB + 2 * GIB + shape_of(path="builtin:smollm2", shape=None).weight_bytes()
    words = shlex.split(command_line(server))
    assert words[words.index("-m") - 1 :][:3] == ["/bin/sh", "-m", "vllm.entrypoints.cli.main"]


@pytest.mark.parametrize("context", [4096, 8192])
def test_vllms_pool_on_a_cpu_has_room_for_what_was_planned(context: int) -> None:
    server = only(plan_of(config_of(VLLM | {"dtype": "float32"}, context_length=context), cpu_machine(20)))
    assert server.kv_tokens >= 2 * context
    assert server.kv_tokens == int(server.env["VLLM_CPU_KVCACHE_SPACE"]) * GIB // 46080


def test_too_little_memory_on_a_cpu_names_the_vllm_server() -> None:
    with pytest.raises(PlanError, match=r"not enough memory for 3 servers: .* other-plain 3\.\d"):
        plan_of(config_of(PAIR, VLLM), cpu_machine(4))


def test_the_users_flags_and_variables_for_vllm_come_last() -> None:
    model = VLLM | {"server_args": ["--max-num-seqs", "4"]}
    server = plan_of(config_of(PAIR, model, server_args=["--sglangs"], env={"OMP_NUM_THREADS": "2"}), cpu_machine(20))
    assert server.servers[2].argv[-2:] == ("--max-num-seqs", "4")
    assert "--sglangs" not in server.servers[2].argv
    assert server.servers[2].env["OMP_NUM_THREADS"] == "2"


def test_a_config_wide_interpreter_serves_the_models_that_name_none() -> None:
    other = {"name": "third", **SMOL, "engine": "vllm"}
    plan = plan_of(config_of(VLLM, other, PLAIN, vllm_python="/bin/true"), cpu_machine(20))
    assert [server.python for server in plan.servers] == ["/bin/sh", "/bin/true", None]


def check_gpus(plan: Plan, inventory: Inventory) -> None:
    """No GPU gives more than it has, and every vLLM server finds free what it asks for, started last of all."""
    used: dict[int, int] = defaultdict(int)
    for server in plan.servers:
        requirement = requirement_of(server)
        assert server.memory_bytes == requirement.total_bytes(server.kv_tokens)
        for index in server.gpus:
            used[index] += server.memory_bytes
    for gpu in inventory.gpus:
        assert used[gpu.index] <= gpu.free_bytes - reserved_bytes(gpu)
    for server in plan.servers:
        if server.model.engine == "vllm":
            requirement = requirement_of(server)
            assert int(flag(server, "--kv-cache-memory-bytes")) == requirement.kv_pool_bytes(server.kv_tokens)
            for gpu in inventory.gpus:
                if gpu.index in server.gpus:
                    others = used[gpu.index] - server.memory_bytes
                    free = gpu.free_bytes - others - requirement.cuda_context_bytes
                    assert float(flag(server, "--gpu-memory-utilization")) * gpu.total_bytes <= free


BIG = {"path": "Qwen/Qwen3-8B"}


@pytest.mark.parametrize("free", [[139.2], [139.2, 60.0], [100.0, 139.0, 139.0]])
def test_vllm_servers_share_gpus_with_pairs(free: list[float]) -> None:
    inventory = gpu_machine(*free)
    models: list[dict[str, Any]] = [{"name": "pair", **BIG}, {"name": "plain", **BIG, "disaggregated": False}]
    models += [{"name": f"v{i}", **BIG, "engine": "vllm"} for i in (1, 2)]
    plan = plan_of(config_of(*models, context_length=8192), inventory)
    assert len(plan.servers) == 5
    check_gpus(plan, inventory)
    for server in plan.servers[3:]:
        assert flag(server, "--max-num-batched-tokens") == "8192"
        assert "--enforce-eager" not in server.argv
        assert server.env["CUDA_VISIBLE_DEVICES"] == ",".join(map(str, server.gpus))
        assert "VLLM_CPU_KVCACHE_SPACE" not in server.env
    table = render(plan, inventory)
    assert "v2-plain" in table
    for wave in plan.waves():
        for server in wave:
            beside = {gpu for other in wave if other is not server for gpu in other.gpus}
            assert server.model.engine != "vllm" or beside.isdisjoint(server.gpus), "vLLM measures what is free"


def test_vllm_spans_gpus() -> None:
    inventory = gpu_machine(139.0, 60.0)
    wide = {"name": "wide", "path": "Qwen/Qwen3-32B", "engine": "vllm", "tp": 2}
    server = only(plan_of(config_of(wide, context_length=8192, max_total_tokens=20000), inventory))
    assert server.gpus == (0, 1)
    assert flag(server, "--tensor-parallel-size") == "2"
    assert server.kv_tokens == 20000
    check_gpus(plan_of(config_of(wide), inventory), inventory)


def test_a_smaller_step_of_vllm_leaves_more_for_the_cache() -> None:
    model = {"name": "v", **BIG, "engine": "vllm"}
    small = only(plan_of(config_of(model | {"server_args": ["--max-num-batched-tokens", "2048"]}), empty_gpus(1)))
    assert small.kv_tokens > only(plan_of(config_of(model), empty_gpus(1))).kv_tokens
    eight = only(plan_of(config_of(model | {"server_args": ["--kv-cache-dtype", "fp8"]}), empty_gpus(1)))
    assert eight.kv_tokens > 1.9 * only(plan_of(config_of(model), empty_gpus(1))).kv_tokens


def test_the_cpu_backends_of_sglang_are_not_asked_of_vllm() -> None:
    config = config_of(VLLM | {"vllm_python": None}).model_copy(update={"attention_backend": "triton"})
    assert only(plan_of(config, cpu_machine(20))).name == "other-plain"
    with pytest.raises(PlanError, match="attention_backend is triton, which needs a GPU"):
        plan_of(config_of(PLAIN, attention_backend="triton"), cpu_machine(20))
    with pytest.raises(PlanError, match="other has tp 2, but this machine has no GPU"):
        plan_of(config_of(VLLM | {"tp": 2}), cpu_machine(20))
