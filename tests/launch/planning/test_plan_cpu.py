"""Plans for machines without a GPU."""

import pytest

from launch.config.loading import first_models, load_config
from launch.config.schema import LaunchConfig, ModelConfig
from launch.errors import PlanError
from launch.machine.units import GIB
from launch.planning.memory import CPU_PROCESS_BYTES
from launch.planning.plan import make_plan
from tests.launch.machines import cpu_machine, flag, port_counter

DEFAULT = load_config(None, device="cpu")


def test_three_pairs_of_the_packaged_model() -> None:
    plan = make_plan(first_models(DEFAULT, 3), cpu_machine(23), ports=port_counter())
    assert plan.device == "cpu"
    assert [server.name for server in plan.servers] == [
        f"smollm2-{letter}-{role}" for letter in "abc" for role in ("prefill", "decode")
    ]
    assert [len(wave) for wave in plan.waves()] == [1] * 6
    for server in plan.servers:
        # 0.25 GiB of weights, 8192 tokens of 23,040 bytes, and 0.7 GiB of the process itself.
        assert server.memory_bytes == pytest.approx((0.2506 + 8192 * 23040 / GIB + 0.7) * GIB, rel=1e-3)
        assert server.gpus == ()
        assert server.env["SGLANG_EXT_KV_POOL_BYTES"] == str(8192 * 23040)
        assert "--mem-fraction-static" not in server.argv
        assert server.env["SGLANG_PLATFORM"] == "faster_moa_cpu"
        assert server.env["CUDA_VISIBLE_DEVICES"] == ""
        assert server.env["OMP_NUM_THREADS"] == "1"
        assert flag(server, "--device") == "cpu"
        assert flag(server, "--max-total-tokens") == "8192"


def test_ports_are_all_different_and_only_prefill_has_a_bootstrap() -> None:
    plan = make_plan(DEFAULT, cpu_machine(23), ports=port_counter())
    ports = [plan.router_port]
    for server in plan.servers:
        ports += [int(flag(server, "--port")), int(flag(server, "--nccl-port"))]
        assert server.port == int(flag(server, "--port"))
        if server.role == "prefill":
            assert server.bootstrap_port == int(flag(server, "--disaggregation-bootstrap-port"))
            ports.append(server.bootstrap_port)
        else:
            assert server.bootstrap_port is None
            assert "--disaggregation-decode-enable-radix-cache" in server.argv
    assert len(ports) == len(set(ports))


def test_a_given_router_port_is_kept() -> None:
    assert make_plan(DEFAULT, cpu_machine(23), ports=port_counter(), router_port=123).router_port == 123


def test_too_little_memory_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(PlanError) as refused:
        make_plan(DEFAULT, cpu_machine(5), ports=port_counter())
    message = str(refused.value)
    for part in ("6 servers", "smollm2-a-prefill 1.1", "together 6.8 GiB", "5.0 GiB are free", "1.8 GiB are missing"):
        assert part in message
    assert "\n" not in message


def test_a_large_model_gets_a_pool_of_its_own_size() -> None:
    config = LaunchConfig(models=[ModelConfig(name="big", shape="qwen3-4b")], context_length=2048)
    plan = make_plan(config, cpu_machine(23), ports=port_counter())
    for server in plan.servers:
        assert server.kv_tokens == 4096
        assert server.env["SGLANG_EXT_KV_POOL_BYTES"] == str(4096 * 2 * 36 * 8 * 128 * 2)


def test_float32_doubles_weights_and_cache() -> None:
    half, full = (
        make_plan(
            LaunchConfig(models=[ModelConfig(name="m", path="builtin:smollm2", dtype=dtype)], context_length=4096),
            cpu_machine(23),
            ports=port_counter(),
        ).servers[0]
        for dtype in ("auto", "float32")
    )
    own = CPU_PROCESS_BYTES
    assert full.memory_bytes - own == pytest.approx(2 * (half.memory_bytes - own), rel=1e-6)
    assert flag(full, "--dtype") == "float32"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_backend": "flashinfer"}, "attention_backend is flashinfer, which needs a GPU"),
        ({"mps": True}, "mps is for servers that share a GPU, and this machine has none; leave mps out"),
        ({"sampling_backend": "flashinfer"}, "sampling_backend is flashinfer, which needs a GPU"),
        ({"context_length": 9000, "max_total_tokens": 9000}, "made for 8192 tokens"),
        ({"models": [ModelConfig(name="m", shape="smollm2-135m", tp=2)]}, "no GPU; leave tp at 1"),
    ],
)
def test_what_a_cpu_cannot_do_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make_plan(DEFAULT.model_copy(update=change), cpu_machine(23), ports=port_counter())


def test_the_routers_flags_are_the_configs() -> None:
    flags = ["--embedding-model", "some/model"]
    config = DEFAULT.model_copy(update={"router_args": flags})
    assert make_plan(config, cpu_machine(23), ports=port_counter()).router_args == tuple(flags)
