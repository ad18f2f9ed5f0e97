"""Ports and addresses of servers."""

import socket

import pytest

from launch.errors import PlanError
from launch.machine.ports import check_own_address, free_ports


def test_ports_in_use_are_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert next(free_ports(start=port)) > port
        assert next(free_ports("0.0.0.0", start=port)) > port


def test_no_port_left_is_one_sentence() -> None:
    with pytest.raises(PlanError, match=r"no port of 127\.0\.0\.1 is left from 65535 to 65535"):
        list(free_ports(start=65535))


@pytest.mark.parametrize(
    ("host", "words"),
    [("localhost", "is no IPv4 address"), ("::1", "is no IPv4 address"), ("192.0.2.1", "no address of this machine")],
)
def test_an_address_of_another_machine_is_refused(host: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        check_own_address(host)
    check_own_address("127.0.0.1")
