"""What of a worker's words the client gets."""

import orjson
import pytest

from router.dispatch.worker_errors import (
    error_message,
    raise_failure,
    refusal_in_stream,
    without_paths,
    without_traces,
)
from router.errors import ConnectFailed, UpstreamFailed

TRACE = 'Traceback (most recent call last):\n  File "/usr/lib/a.py", line 7, in f\n    boom()\nValueError: it is wrong'

FRAME = '  File "/usr/x/protocol.py", line 3, in check\n'
NEITHER = (b'data: {"text":"abort"}\n\n', b"", b'data: {"error"')
HARMLESS = "see /v1/models and http://a.org/x/y.py for /generate"


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("[20:47:48] /project/cpp/grammar_parser.cc:106: EBNF lexer error", "EBNF lexer error"),
        (TRACE, "ValueError: it is wrong"),
        (f"it must be positive\n{FRAME}", "it must be positive"),
        (HARMLESS, HARMLESS),
        ("1/2 is not 3/4", "1/2 is not 3/4"),
    ],
)
def test_no_traces(said: str, left: str) -> None:
    assert without_traces(said) == left
    assert error_message(orjson.dumps({"error": {"message": said}})) == left
    body = orjson.dumps({"error": {"message": said, "code": 400}, "details": [said]})
    cleaned = orjson.loads(without_paths(body))
    assert cleaned["error"] == {"message": left if left != said.strip() else said, "code": 400}


def test_what_has_no_traces_stays_as_it_is() -> None:
    for body in (b'{ "error": "odd / spacing" }', b"plain text / with a slash", b""):
        assert without_paths(body) == body
    assert without_paths(TRACE.encode()) == b"ValueError: it is wrong"


def test_a_refusal_in_a_stream() -> None:
    openai = b'data: {"error":{"message":"/a/b.cc:3: no","type":"X","code":400}}\n\ndata: [DONE]\n\n'
    reason = {"type": "abort", "message": "no", "status_code": 400}
    native = b"data: " + orjson.dumps({"text": "", "meta_info": {"finish_reason": reason}}) + b"\n\n"
    for chunk in (openai, native):
        found = refusal_in_stream(chunk)
        assert found is not None
        status, body = found
        assert status == 400
        assert orjson.loads(body)["error"] == {"message": "no", "type": "invalid_request_error", "code": 400}
        raise_failure(chunk)
        with pytest.raises(UpstreamFailed, match="a server gave the request up with 503: no") as failed:
            raise_failure(chunk.replace(b"400", b"503"))
        assert failed.value.upstream_status == 503
        with pytest.raises(ConnectFailed, match="the cause"):
            raise_failure(chunk.replace(b"400", b"503"), ConnectFailed("the cause"))
    for other in (openai.replace(b"400", b"500"), *NEITHER):
        assert refusal_in_stream(other) is None
    for other in (openai.replace(b"400", b"200"), openai.replace(b"400", b'"500"'), *NEITHER):
        raise_failure(other)
