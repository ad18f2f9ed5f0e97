"""Request ids: a client's own are only the beginning of those that servers get."""

from typing import Any

import pytest

from router.dispatch.request_ids import unique_id, unique_ids
from router.errors import BadRequest
from tests.router.moa.test_run_failures import OpenAIServer
from tests.router.support.aio import run
from tests.router.support.serving import serving

COMPLETIONS = "/v1/completions"


@pytest.mark.claim("aborts-reach-ones-own")
def test_no_two_are_the_same_and_none_begins_another() -> None:
    ids = [unique_id(prefix) for prefix in ("", "", "a", "a", "a-b")]
    assert not [1 for one in ids for other in ids if one is not other and one.startswith(other)]
    assert [each.rpartition("-")[0] for each in ids] == ["", "", "a", "a", "a-b"]


@pytest.mark.parametrize("rid", [5, {"a": 1}, ["a", 1], True])
def test_what_is_no_id(rid: Any) -> None:
    with pytest.raises(BadRequest, match=r"^`rid` must be a string, or a list of one string for each prompt\.$"):
        unique_ids(rid)


@pytest.mark.claim("aborts-reach-ones-own")
@pytest.mark.parametrize("filler", ["", "x" * 100_000], ids=["short", "long"])
def test_two_clients_with_one_id_do_not_meet_on_a_plain_server(filler: str) -> None:
    """SGLang refuses an id that is in use, and ends all whose id begins with that of a client that leaves."""

    async def test() -> None:
        plain = OpenAIServer()
        async with plain.server, serving(plain=(plain.server.url,)) as router:
            for path, more in (
                ("/v1/chat/completions", {"messages": [{"role": "user", "content": filler}], "rid": "a"}),
                (COMPLETIONS, {"prompt": filler, "rid": ""}),
                (COMPLETIONS, {"prompt": [filler, "y"], "rid": ["a", "a"]}),
            ):
                sent: list[str] = []
                for _ in range(2):
                    await router.post(path, {"model": "other", **more})
                    rid = plain.server.calls[-1].json["rid"]
                    sent += [rid] if isinstance(rid, str) else rid
                assert len(set(sent)) == len(sent)
                assert all(len(each) >= 32 for each in sent)
                assert all(each.startswith("a-") for each in sent if more["rid"])
            answer = await router.post(COMPLETIONS, {"model": "other", "prompt": "x", "rid": 5})
            assert answer.status_code == 400
            await router.post(COMPLETIONS, {"model": "other", "prompt": "x", "rid": None})
            assert plain.server.calls[-1].json["rid"] is None, "the server makes one"

    run(test)
