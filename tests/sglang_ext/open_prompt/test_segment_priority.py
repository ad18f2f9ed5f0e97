"""A decode server that sorts by priority puts segments last, whatever priority their client asked for."""

from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from sglang_ext.open_prompt.operation import CUSTOM_PARAM
from sglang_ext.open_prompt.requests import receive_operation
from sglang_ext.open_prompt.scheduler_state import OpenPromptScheduler
from sglang_ext.process_state import process_state
from tests.sglang_ext.open_prompt.real_decode import DecodeServer

pytestmark = pytest.mark.servers  # imports all of SGLang


@pytest.mark.parametrize(("op", "expected"), [("append", None), ("final", 5)])
def test_segments_have_no_priority(op: str, expected: int | None) -> None:
    server = DecodeServer(96)
    server.scheduler.model_config = SimpleNamespace(context_len=96)
    custom = {CUSTOM_PARAM: {"id": "prompt-1", "op": op}}
    sampling = SimpleNamespace(custom_params=custom, max_new_tokens=0)
    fields: dict[str, Any] = {"input_embeds": None, "mm_inputs": None, "session_params": None, "return_logprob": False}
    request: Any = SimpleNamespace(rid="a", sampling_params=sampling, input_ids=[1, 2], priority=5, **fields)
    original = mock.Mock()
    with mock.patch.object(process_state, "_parts", {OpenPromptScheduler: server.state}):
        receive_operation(original, server.scheduler, request)
    original.assert_called_once_with(server.scheduler, request)
    assert request.priority == expected
