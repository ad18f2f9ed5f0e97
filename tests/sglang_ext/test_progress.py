"""Which servers drive NIXL's transfers themselves. A GPU server is made up: there is none to ask."""

from types import SimpleNamespace

import pytest

from sglang_ext.transfer.progress import without_progress_thread


@pytest.fixture
def gpu_server(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    from sglang.srt import server_args

    args = SimpleNamespace(disaggregation_mode="prefill")
    monkeypatch.setattr("sglang_ext.cpu.is_active", lambda _: False)
    monkeypatch.setattr(server_args, "get_global_server_args", lambda: args)
    return args


def made(*args: object, **kwargs: object) -> tuple[object, ...]:
    """What NIXL's agent gets, arguments as SGLang and as others give them."""
    from nixl._api import nixl_agent_config

    given = without_progress_thread(object(), *args, **kwargs)
    if given is not None:
        (_, *args), kwargs = given
    config = nixl_agent_config(*args, **kwargs)
    return config.enable_pthread, config.num_threads


def test_a_prefill_server_has_no_progress_thread(gpu_server: SimpleNamespace) -> None:
    assert made(num_threads=8, backends=[]) == (False, 8)
    assert made(True, num_threads=8, backends=[]) == (False, 8)
    assert made(enable_prog_thread=True, backends=[]) == (False, 0)


def test_a_decode_server_keeps_it(gpu_server: SimpleNamespace) -> None:
    gpu_server.disaggregation_mode = "decode"
    assert made(num_threads=0, backends=[]) == (True, 0)


def test_an_operator_may_want_it(gpu_server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_EXT_NIXL_PROGRESS_THREAD", "1")
    assert made(num_threads=8, backends=[]) == (True, 8)


def test_on_a_cpu_no_server_has_one(gpu_server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_server.disaggregation_mode = "decode"
    monkeypatch.setattr("sglang_ext.cpu.is_active", lambda _: True)
    monkeypatch.setenv("SGLANG_EXT_NIXL_PROGRESS_THREAD", "1")
    assert made(num_threads=0, backends=[]) == (False, 0)
