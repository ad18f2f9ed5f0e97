"""The command line of the router."""

from pathlib import Path

from launch.config.loading import first_models, load_config
from launch.planning.plan import make_plan
from launch.planning.router_flags import router_argv
from tests.launch.machines import cpu_machine, flag, port_counter


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


def test_servers_that_listen_everywhere_are_reached_on_loopback() -> None:
    config = first_models(load_config(None, device="cpu"), 1)
    for host, reached in (("0.0.0.0", "127.0.0.1"), ("10.1.2.3", "10.1.2.3")):
        plan = make_plan(config, cpu_machine(20), ports=port_counter(), host=host)
        argv = router_argv(plan, Path("/logs/trees.json"))
        assert argv[argv.index("--host") + 1] == "127.0.0.1", "the router itself stays"
        assert f"http://{reached}:{plan.servers[1].port}" in argv
        assert {flag(server, "--host") for server in plan.servers} == {host}
