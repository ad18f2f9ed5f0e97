"""The command line of the router."""

from pathlib import Path

from launch.config.loading import first_models, load_config
from launch.planning.plan import make_plan
from launch.planning.router_flags import router_argv
from tests.launch.machines import cpu_machine, port_counter


def test_every_server_is_given_to_the_router_and_the_configs_flags_come_last() -> None:
    config = first_models(load_config(None, device="cpu"), 1).model_copy(
        update={"router_args": ["--log-level", "debug"]}
    )
    plan = make_plan(config, cpu_machine(20), ports=port_counter())
    prefill, decode = plan.servers
    assert " ".join(router_argv(plan, Path("/logs/trees.json"))) == (
        f"--pd-disaggregation --host 127.0.0.1 --port {plan.router_port} --trees /logs/trees.json "
        f"--worker-probe-interval 2 --prefill http://127.0.0.1:{prefill.port} {prefill.bootstrap_port} "
        f"--decode http://127.0.0.1:{decode.port} --log-level debug"
    )
