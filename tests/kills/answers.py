"""What a client makes of an answer: whether it is whole, a refusal, or a stream that ended with an error."""

import json
from typing import Any, Literal

from tests.kills.requests import Request

Result = Literal["answer", "refused", "broken", "wrong", "cut", "left", "hung"]
"""Of a request.

`answer`: whole. `refused`: a status of 500 or more. `broken`: a stream that said with such a code why it is not whole.
`wrong`: any other answer. `cut`: the connection was lost. `left`: by its client. `hung`: not over within its time.
"""


def judge(request: Request, status: int, text: str) -> Result:
    """What an answer is that came to its end."""
    if status >= 500:
        return "refused"
    if status != 200:
        return "wrong"
    try:
        return _stream(request, text) if request.streams else _whole(request, json.loads(text))
    except (ValueError, KeyError, IndexError, TypeError):
        return "wrong"


def _whole(request: Request, answer: dict[str, Any]) -> Result:
    if request.kind == "generate":
        return "answer" if answer["meta_info"]["completion_tokens"] == request.tokens else "wrong"
    choice = answer["choices"][0]
    said = choice["text"] if request.kind == "completions" else choice["message"]["content"]
    fits = request.tokens in (None, answer["usage"]["completion_tokens"])
    return "answer" if isinstance(said, str) and choice["finish_reason"] and fits else "wrong"


def _stream(request: Request, text: str) -> Result:
    *events, done = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    if done != "[DONE]":
        return "wrong"
    last = json.loads(events[-1])
    if "error" in last:
        return "broken" if int(last["error"]["code"]) >= 500 else "wrong"
    if request.kind == "generate":
        if (last["meta_info"].get("finish_reason") or {}).get("status_code", 0) >= 500:
            return "broken"
        return "answer" if last["meta_info"]["completion_tokens"] == request.tokens else "wrong"
    told = [choice for event in events for choice in json.loads(event).get("choices", ())]
    return "answer" if any(choice.get("finish_reason") for choice in told) else "wrong"
