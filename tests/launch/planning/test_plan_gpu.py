"""Plans for machines with GPUs."""

import json
import re
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.config.loading import first_models, load_config
from launch.config.schema import LaunchConfig, ModelConfig
from launch.errors import PlanError
from launch.machine.inventory import Inventory
from launch.machine.units import GIB
from launch.planning.placement import GpuRequest, PlacementFailure, place_servers
from launch.planning.plan import Plan, make_plan
from launch.planning.reserve import reserved_bytes
from tests.launch.machines import H100, empty_gpus, flag, gpu_machine, port_counter, requirement_of, start_on_gpus

DEFAULT = load_config(None, device="gpu")
DUMMY = load_config(Path("h200-dummy"), device="gpu")


def plan_for(config: LaunchConfig, inventory: Inventory) -> Plan:
    return make_plan(config, inventory, ports=port_counter())


def places(plan: Plan) -> dict[str, tuple[int, ...]]:
    return {server.name: server.gpus for server in plan.servers}


def check_memory(plan: Plan, inventory: Inventory) -> None:
    """No GPU gives more than it has, by the plan's own figures and in two simulated starts."""
    used: dict[int, int] = defaultdict(int)
    for server in plan.servers:
        requirement = requirement_of(server)
        assert server.memory_bytes == requirement.total_bytes(server.kv_tokens)
        assert len(set(server.gpus)) == len(server.gpus) == server.model.tp
        for index in server.gpus:
            used[index] += server.memory_bytes
    for gpu in inventory.gpus:
        assert used[gpu.index] <= max(0, gpu.free_bytes - reserved_bytes(gpu))
    planned = {server.name: server.kv_tokens for server in plan.servers}
    assert start_on_gpus(plan, inventory) == planned
    assert start_on_gpus(plan, inventory, runtime_at_once=False) == planned


@pytest.mark.parametrize("number", [6, 8])
@pytest.mark.parametrize("config", [DEFAULT, DUMMY], ids=["default", "dummy"])
@pytest.mark.parametrize("total", [H100, 139.8])
def test_with_enough_gpus_every_server_has_its_own(number: int, config: LaunchConfig, total: float) -> None:
    inventory = empty_gpus(number, total)
    plan = plan_for(config, inventory)
    assert sorted(places(plan).values()) == [(gpu,) for gpu in range(6)]
    assert [len(wave) for wave in plan.waves()] == [6]
    assert plan.notes == ()
    check_memory(plan, inventory)


def test_on_two_gpus_every_pair_is_spread() -> None:
    inventory = empty_gpus(2)
    plan = plan_for(DEFAULT, inventory)
    for prefill, decode in zip(plan.servers[::2], plan.servers[1::2], strict=True):
        assert {prefill.gpus, decode.gpus} == {(0,), (1,)}
    assert [len(wave) for wave in plan.waves()] == [6]
    in_turn = plan_for(DEFAULT.model_copy(update={"start_in_turn": True}), inventory)
    assert [len(wave) for wave in in_turn.waves()] == [2, 2, 2]
    assert in_turn.servers == plan.servers
    check_memory(plan, inventory)


def test_three_dummy_pairs_share_one_h200() -> None:
    inventory = empty_gpus(1)
    plan = plan_for(DUMMY, inventory)
    assert set(places(plan).values()) == {(0,)}
    assert plan.waves() == [list(plan.servers)]
    in_turn = plan_for(DUMMY.model_copy(update={"start_in_turn": True}), inventory)
    assert in_turn.waves() == [[server] for server in in_turn.servers]
    assert all(server.kv_tokens >= DUMMY.context_length for server in plan.servers)
    assert any("tight" in note for note in plan.notes)
    assert any("shared by 6 servers" in note for note in plan.notes)
    assert not plan.mps
    check_memory(plan, inventory)


def test_the_default_on_one_h200_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(PlanError) as refused:
        plan_for(DEFAULT, empty_gpus(1))
    message = str(refused.value)
    # 32.76e9 parameters in 16 bits are 61.0 GiB; a token's KV is 0.25 MiB, so 16384 of them 4 GiB.
    for part in (
        "qwen3-32b-prefill 68.7",
        "qwen3-4b-decode 12.4",
        "together 202.1",
        "GPU 0 has 136.4 to give (139.2 free of 139.8, 2.8 kept back)",
        "65.7 GiB are missing",
        "--hetero",
    ):
        assert part in message
    assert "\n" not in message


def test_a_server_larger_than_any_gpu_is_refused_with_tensor_parallelism_as_advice() -> None:
    with pytest.raises(PlanError, match=r"GPUs 0\+1\+2.* have each 45\.5 .* lacks 23\.2 GiB; .* \(tp: 2\)"):
        plan_for(DEFAULT, empty_gpus(8, 47.0))


def test_a_context_that_is_too_long_for_the_memory_is_named() -> None:
    config = first_models(DEFAULT, 1).model_copy(update={"context_length": 40960})
    with pytest.raises(PlanError, match=r"lower context_length \(now 40960\)"):
        plan_for(config, empty_gpus(1, 24.0))


def test_a_context_longer_than_the_model_knows_is_refused() -> None:
    config = DEFAULT.model_copy(update={"context_length": 50000})
    with pytest.raises(PlanError, match=r"qwen3-4b was made for 40960 tokens"):
        plan_for(config, empty_gpus(8))


def test_memory_in_use_by_others_is_left_alone() -> None:
    inventory = gpu_machine(20.0, 139.0, 139.0)
    plan = plan_for(DUMMY, inventory)
    assert all(server.gpus != (0,) or server.memory_bytes < 20 * GIB for server in plan.servers)
    check_memory(plan, inventory)


@pytest.mark.parametrize("config", [DEFAULT, DUMMY], ids=["default", "dummy"])
def test_the_slowest_decode_has_no_other_beside_it(config: LaunchConfig) -> None:
    large, *smaller = sorted((model.name for model in config.models), key=lambda name: -_billions(name))
    for number in (2, 3, 4):
        placed = places(plan_for(config, empty_gpus(number)))
        assert placed[f"{large}-decode"] not in {placed[f"{name}-decode"] for name in smaller}


def test_on_three_gpus_the_slowest_decode_is_alone() -> None:
    placed = places(plan_for(DEFAULT, empty_gpus(3)))
    assert [name for name, gpus in placed.items() if gpus == placed["qwen3-32b-decode"]] == ["qwen3-32b-decode"]


def _billions(name: str) -> float:
    return float(re.findall(r"([\d.]+)b", name)[-1])


def test_decode_servers_share_out_what_they_read() -> None:
    requests = [GpuRequest(f"{size}", f"{size}", 1, 10, 1, size) for size in (9, 5, 4, 3)]
    assert place_servers(requests, {0: 100, 1: 100}) == [(0,), (1,), (1,), (0,)]


def test_where_decode_servers_cannot_be_apart_memory_decides() -> None:
    """The large prefill server fits on GPU 0 alone, beside nothing."""
    requests = [
        GpuRequest("prefill", "a", 1, 10 * GIB, GIB),
        GpuRequest("decode", "a", 1, 5 * GIB, GIB, 4 * GIB),
        GpuRequest("other", "b", 1, 4 * GIB, GIB, 3 * GIB),
    ]
    assert place_servers(requests, {0: 10 * GIB, 1: 9 * GIB}) == [(0,), (1,), (1,)]


def test_servers_are_packed_where_spreading_them_fails() -> None:
    sizes = {"large": 7, "small": 5, "other": 5}
    requests = [GpuRequest(name, name, 1, size * GIB, GIB) for name, size in sizes.items()]
    assert place_servers(requests, {0: 10 * GIB, 1: 7 * GIB}) == [(1,), (0,), (0,)]
    refused = place_servers(requests, {0: 10 * GIB, 1: 6 * GIB})
    assert isinstance(refused, PlacementFailure)
    assert refused.request.bytes_per_gpu == 5 * GIB


def test_a_tensor_parallel_server_spans_gpus_of_its_own_choice() -> None:
    wide = ModelConfig(name="wide", path="Qwen/Qwen3-32B", tp=2)
    config = LaunchConfig(models=[wide], context_length=16384, attention_backend="flashinfer")
    inventory = empty_gpus(4, 47.0)
    plan = plan_for(config, inventory)
    prefill, decode = plan.servers
    assert {*prefill.gpus, *decode.gpus} == {0, 1, 2, 3}
    assert flag(prefill, "--tp-size") == "2"
    assert prefill.env["CUDA_VISIBLE_DEVICES"] == ",".join(map(str, prefill.gpus))
    check_memory(plan, inventory)


def test_unequal_gpus_under_a_tensor_parallel_server_do_not_trip_sglangs_check() -> None:
    config = LaunchConfig(models=[ModelConfig(name="wide", shape="qwen3-8b", tp=2)], context_length=16384)
    inventory = gpu_machine(139.0, 60.0)
    plan = plan_for(config, inventory)
    assert all(server.env["SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK"] == "0" for server in plan.servers)
    check_memory(plan, inventory)
    alone = plan_for(DUMMY, empty_gpus(2))
    assert all("SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK" not in server.env for server in alone.servers)


@pytest.mark.parametrize(("tp", "message"), [(3, "does not divide"), (8, "the number of GPUs is 4")])
def test_impossible_tensor_parallelism_is_refused(tp: int, message: str) -> None:
    config = LaunchConfig(models=[ModelConfig(name="wide", shape="qwen3-8b", tp=tp)], context_length=16384)
    with pytest.raises(PlanError, match=message):
        plan_for(config, empty_gpus(4))


def test_the_pool_respects_the_configured_limit() -> None:
    config = DUMMY.model_copy(update={"max_total_tokens": 20000})
    plan = plan_for(config, empty_gpus(8))
    assert {server.kv_tokens for server in plan.servers} == {20000}
    check_memory(plan, empty_gpus(8))


@pytest.mark.parametrize("flag", ["--chunked-prefill-size", "--max_num_batched_tokens"])
def test_a_smaller_prefill_chunk_leaves_more_for_the_cache(flag: str) -> None:
    config = DUMMY.model_copy(update={"server_args": [flag, "2048"]})
    small, usual = plan_for(config, empty_gpus(8)).servers[0], plan_for(DUMMY, empty_gpus(8)).servers[0]
    assert small.kv_tokens > usual.kv_tokens


@pytest.mark.parametrize("flags", [["--kv-cache-dtype", "fp8_e4m3"], ["--kv-cache-dtype=fp8_e5m2"]])
def test_a_cache_of_8_bits_holds_twice_as_many_tokens(flags: list[str]) -> None:
    config = DUMMY.model_copy(update={"server_args": flags})
    for eight, sixteen in zip(
        plan_for(config, empty_gpus(8)).servers, plan_for(DUMMY, empty_gpus(8)).servers, strict=True
    ):
        assert eight.kv_tokens == pytest.approx(2 * sixteen.kv_tokens, abs=64)
        assert eight.memory_bytes == pytest.approx(sixteen.memory_bytes, rel=0.001)


def test_both_servers_of_a_pair_keep_the_cache_in_one_type() -> None:
    model = ModelConfig(name="m", shape="qwen3-4b", prefill_args=["--kv-cache-dtype", "fp8_e4m3"])
    with pytest.raises(PlanError, match="m has --kv-cache-dtype fp8_e4m3 for prefill and auto for decode"):
        plan_for(LaunchConfig(models=[model], context_length=64), empty_gpus(2))


def test_latent_vectors_need_no_head_for_each_gpu(tmp_path: Path) -> None:
    sizes = {"hidden_size": 1024, "intermediate_size": 2048, "num_hidden_layers": 4, "vocab_size": 1000}
    heads = {"num_attention_heads": 16, "num_key_value_heads": 3, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    (tmp_path / "config.json").write_text(json.dumps(sizes | heads))
    wide = ModelConfig(name="wide", path=str(tmp_path), tp=2)
    server = plan_for(LaunchConfig(models=[wide], context_length=64), empty_gpus(2)).servers[0]
    assert int(server.env["SGLANG_EXT_KV_POOL_BYTES"]) == server.kv_tokens * 4 * (512 + 64) * 2


def test_too_little_for_even_the_weights_is_refused() -> None:
    with pytest.raises(PlanError, match="missing"):
        plan_for(DUMMY, gpu_machine(0.0, 0.0))


SHAPES = ["qwen3-0.6b", "qwen3-1.7b", "qwen3-4b", "qwen3-8b", "qwen3-14b", "qwen3-32b"]


@st.composite
def configs(draw: st.DrawFn) -> LaunchConfig:
    chosen = draw(st.lists(st.tuples(st.sampled_from(SHAPES), st.sampled_from([1, 1, 2, 4])), min_size=1, max_size=5))
    models = [ModelConfig(name=f"m{i}", shape=shape, tp=tp) for i, (shape, tp) in enumerate(chosen)]
    context = draw(st.integers(64, 40960))
    limit = draw(st.none() | st.integers(context, 200_000))
    return LaunchConfig(models=models, context_length=context, max_total_tokens=limit)


@st.composite
def machines(draw: st.DrawFn) -> Inventory:
    total = draw(st.sampled_from([23.6, 47.0, H100, 139.8, 178.0]))
    return gpu_machine(*draw(st.lists(st.floats(0, total), min_size=1, max_size=8)), total_gib=total)


@settings(max_examples=150, deadline=None)
@given(configs(), machines())
def test_no_plan_gives_out_more_than_there_is(config: LaunchConfig, inventory: Inventory) -> None:
    try:
        plan = plan_for(config, inventory)
    except PlanError:
        return
    check_memory(plan, inventory)
    assert sum(len(wave) for wave in plan.waves()) == len(plan.servers) == 2 * len(config.models)
    assert all(server.kv_tokens >= config.context_length for server in plan.servers)


def test_mps_is_for_gpus_that_are_shared() -> None:
    config = DUMMY.model_copy(update={"mps": True})
    shared = plan_for(config, empty_gpus(2))
    assert shared.mps
    assert len(shared.notes) == 2
    assert all(note.endswith("which use it at the same time (MPS).") for note in shared.notes)
    in_turn = plan_for(DUMMY, empty_gpus(2))
    assert all(note.endswith("take turns on it (--mps: use it at the same time).") for note in in_turn.notes)
    alone = plan_for(config, empty_gpus(6))
    assert not alone.mps
    assert alone.notes == ("No GPU is shared, so mps has no effect.",)
