"""What `--ask` prints."""

import io
from typing import Any

from rich.console import Console

from launch.moa.answer_tables import print_answer


def agent(name: str, **speculation: Any) -> dict[str, Any]:
    times = {"start": 0.1, "first_token": 0.2, "end": 0.3}
    counts = {"prompt_tokens": 3, "completion_tokens": 4}
    return {"agent": name, "model": "m", "speculation": speculation, **counts, **times}


def test_who_was_not_prefilled_ahead_is_said() -> None:
    for agents, words in (
        ([agent("a", segments=2), agent("b", used=0, reason="plain server")], "not prefilled ahead: b (plain server)"),
        ([agent("a", segments=2), agent("b")], None),
    ):
        answer = {
            "choices": [{"message": {"content": "Because."}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4},
            "moa": {"agents": agents, "seconds": 1.0},
        }
        out = io.StringIO()
        print_answer(Console(file=out, width=120), answer, ["m-plain"], seconds=2.0, peak_bytes=1 << 30)
        assert words is None or words in out.getvalue()
        assert words is not None or "prefilled" not in out.getvalue()
        assert "Because." in out.getvalue()
