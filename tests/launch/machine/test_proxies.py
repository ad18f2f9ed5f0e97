"""Proxies in the environment: servers reach each other without them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from launch.config.schema import LaunchConfig, ModelConfig
from launch.machine.proxies import direct_connections
from launch.planning.plan import make_plan
from tests.launch.http_server import QuietHandler, serving
from tests.launch.machines import cpu_machine, empty_gpus, port_counter

PROXY = "http://127.0.0.1:9"  # nothing listens on the port of `discard`


class Handler(QuietHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()


@pytest.fixture
def bootstrap_port() -> Iterator[int]:
    with serving(Handler) as port:
        yield port


ASK = """
import json, os, requests, sys
ours = dict(os.environ)
for env in json.loads(sys.argv[2]):
    os.environ.clear()
    os.environ.update({**ours, **env})
    try: print(requests.get(f"http://127.0.0.1:{sys.argv[1]}/route", timeout=20).status_code)
    except requests.RequestException as error: print(type(error).__name__)
"""


def ask(port: int, envs: list[dict[str, str]]) -> list[str]:
    """Statuses of requests as SGLang's decode server sends them to prefill's bootstrap server, or the errors' names."""
    command = [sys.executable, "-c", ASK, str(port), json.dumps(envs)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.case("10.proxy")
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("gpus", [0, 2])
def test_public_case_servers_reach_each_other_without_the_proxy(
    monkeypatch: pytest.MonkeyPatch, bootstrap_port: int, name: str, gpus: int
) -> None:
    for each in list(os.environ):
        if each.lower().endswith("_proxy"):
            monkeypatch.delenv(each)
    monkeypatch.setenv(name, PROXY)
    config = LaunchConfig(models=[ModelConfig(name="m", shape="qwen3-0.6b")], context_length=64)
    machine = empty_gpus(gpus) if gpus else cpu_machine(30)
    servers = make_plan(config, machine, ports=port_counter()).servers
    without, *with_ours = ask(bootstrap_port, [{}, *(server.env for server in servers)])
    assert without == "ProxyError", "the proxy is not used at all"
    assert with_ours == ["204"] * len(servers)
    assert servers


def test_proxies_of_the_config_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelConfig(name="m", shape="qwen3-0.6b")
    config = LaunchConfig(models=[model], context_length=64, env={"HTTPS_PROXY": PROXY, "no_proxy": "example.org"})
    server = make_plan(config, cpu_machine(30), ports=port_counter(), host="10.1.2.3").servers[0]
    assert set(server.env["no_proxy"].split(",")) >= {"example.org", "localhost", "127.0.0.1", "::1", "10.1.2.3"}
    assert server.env["NO_PROXY"] == server.env["no_proxy"]


@pytest.mark.parametrize(
    ("environment", "exceptions"),
    [
        ({}, None),
        ({"no_proxy": "a"}, None),
        ({"http_proxy": ""}, None),
        ({"Http_Proxy": PROXY}, "localhost,127.0.0.1,::1"),
        ({"http_proxy": PROXY, "no_proxy": "a, b", "NO_PROXY": "b,c"}, "a,b,c,localhost,127.0.0.1,::1"),
        ({"http_proxy": PROXY, "NO_PROXY": "*"}, "*"),
        ({"http_proxy": PROXY, "no_proxy": "127.0.0.1,"}, "127.0.0.1,localhost,::1"),
    ],
)
def test_what_was_excepted_stays_so(environment: dict[str, str], exceptions: str | None) -> None:
    expected = {} if exceptions is None else {"no_proxy": exceptions, "NO_PROXY": exceptions}
    assert direct_connections(environment) == expected
