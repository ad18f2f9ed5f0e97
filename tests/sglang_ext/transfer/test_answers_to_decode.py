"""Real sockets between a prefill server's answers and decode servers."""

import logging
from collections.abc import Iterator

import pytest
import zmq

from sglang_ext.transfer import answers_to_decode
from sglang_ext.transfer.answers_to_decode import AnswersToDecode

pytestmark = pytest.mark.servers  # imports SGLang
HOST = "127.0.0.1"


@pytest.fixture
def context() -> Iterator["zmq.Context[zmq.Socket[bytes]]"]:
    made = zmq.Context()
    yield made
    made.destroy(0)


@pytest.fixture
def answers(context: "zmq.Context[zmq.Socket[bytes]]") -> AnswersToDecode:
    return AnswersToDecode(context)


def receiving(context: "zmq.Context[zmq.Socket[bytes]]") -> tuple["zmq.Socket[bytes]", int]:
    socket = context.socket(zmq.PULL)
    socket.rcvhwm = 0
    return socket, socket.bind_to_random_port(f"tcp://{HOST}")


def test_more_requests_than_sockets_are_aborted_at_once(
    context: "zmq.Context[zmq.Socket[bytes]]", answers: AnswersToDecode, caplog: pytest.LogCaptureFixture
) -> None:
    decode, port = receiving(context)
    tickets = {b"%d" % number for number in range(3 * context.get(zmq.MAX_SOCKETS))}
    for ticket in tickets:
        answers.send(HOST, port, ticket)
    got: set[bytes] = set()
    while len(got) < len(tickets) and decode.poll(60_000):
        got.add(decode.recv())
    assert got == tickets
    assert not caplog.text


@pytest.mark.timeout(120)  # who waits for room waits for ever
def test_a_decode_server_that_cannot_be_reached_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, answers: AnswersToDecode, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(answers_to_decode, "MAX_UNSENT", 10)
    with caplog.at_level(logging.WARNING):
        for _ in range(11):
            answers.send(HOST, 1, b"ticket")
    assert caplog.text.count("no acknowledgement") == 1


def test_few_sockets_are_kept_and_what_they_had_to_send_is_sent(
    context: "zmq.Context[zmq.Socket[bytes]]", monkeypatch: pytest.MonkeyPatch, answers: AnswersToDecode
) -> None:
    monkeypatch.setattr(answers_to_decode, "MAX_SOCKETS", 2)
    decodes = [receiving(context) for _ in range(4)]
    for _, port in decodes:
        answers.send(HOST, port, b"ticket")
    assert list(answers._sockets) == [(HOST, port) for _, port in decodes[2:]]
    for socket, _ in decodes:
        assert socket.poll(60_000)
        assert socket.recv() == b"ticket"


def test_an_address_that_is_none_is_only_logged(answers: AnswersToDecode, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        answers.send("no address", 1, b"ticket")
    assert "no acknowledgement of an aborted transfer to no address, port 1" in caplog.text
    assert not answers._sockets
