"""What a client asks of a tree, read and checked before the first agent is asked."""

from dataclasses import dataclass
from typing import Any, TypeGuard, get_args

from msgspec.structs import replace

from router.config.structs import InvalidValue
from router.config.structs import read_struct as read_checked
from router.early_exit import ExitRule
from router.errors import BadRequest
from router.moa.openai_format import EndpointKind
from router.moa.prompt_draft import Messages
from router.moa.tree import Arm, Tree
from router.speculative_prefill.composition import AnswerOrder

# Fields of a request that go to the final agent as they are.
FORWARDED_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "stop", "seed", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "max_tokens", "ignore_eos", "logit_bias", "stop_token_ids", "min_tokens",
)  # fmt: skip
UNSUPPORTED_FIELDS = ("tools", "functions", "logprobs", "top_logprobs", "echo", "suffix", "audio", "best_of")
TREE_OPTIONS = ("arm", "order", "exit", "seed")
MAX_ANSWERS = 16  # final answers of one request


@dataclass(frozen=True)
class TreeRequest:
    """One request to a tree.

    Attributes:
        kind: Of the endpoint.
        tree: The tree with what the request changes of it.
        questions: One run each: messages, or token ids.
        sampling: For the final agent, by OpenAI's names.
        n: Final answers of each run.
        seed: Of the runs' early exits; None for a random one.
        stream: Whether the client wants pieces.
        include_usage: Whether it wants the usage as the last piece.
    """

    kind: EndpointKind
    tree: Tree
    questions: list[Messages | list[int]]
    sampling: dict[str, Any]
    n: int
    seed: int | None
    stream: bool
    include_usage: bool


def read_tree_request(body: dict[str, Any], kind: EndpointKind, tree: Tree) -> TreeRequest:
    """Check a request's body; raises `BadRequest` with what is wrong."""
    for key in UNSUPPORTED_FIELDS:
        if body.get(key) not in (None, False, 0, [], ""):
            raise BadRequest(f"`{key}` cannot be had from a tree of agents; leave it out, or ask a model by its name.")
    form = body.get("response_format") or {}
    if not isinstance(form, dict) or form.get("type", "text") != "text":
        raise BadRequest("`response_format` must be text: a tree's agents answer in words.")
    sampling = {key: body[key] for key in FORWARDED_SAMPLING if body.get(key) is not None}
    if body.get("max_completion_tokens") is not None:
        sampling["max_tokens"] = body["max_completion_tokens"]
    _whole(sampling.get("max_tokens", 1), "max_tokens", least=1)
    n = _whole(body.get("n") or 1, "n", least=1)
    options = _options(body.get("moa"))
    seed = options.pop("seed", body.get("seed"))
    if seed is not None:
        _whole(seed, "seed", least=0)
    stream_options = body.get("stream_options") or {}
    if not isinstance(stream_options, dict):
        raise BadRequest("`stream_options` must be an object.")
    questions = _prompts(body) if kind == "completion" else [_question(body)]
    if n * len(questions) > MAX_ANSWERS:
        raise BadRequest(f"{n * len(questions)} answers are asked for; a tree gives up to {MAX_ANSWERS} a request.")
    return TreeRequest(
        kind=kind,
        tree=replace(tree, **options),
        questions=questions,
        sampling=sampling,
        n=n,
        seed=seed,
        stream=bool(body.get("stream")),
        include_usage=bool(stream_options.get("include_usage")),
    )


def _options(given: object) -> dict[str, Any]:
    """The tree's arm, order and exit rule as a request asks for them under `moa`, and its seed."""
    if given is None:
        return {}
    if not isinstance(given, dict) or given.keys() - set(TREE_OPTIONS):
        raise BadRequest(f"`moa` must be an object with {', '.join(f'`{key}`' for key in TREE_OPTIONS)} only.")
    for key, allowed in (("arm", get_args(Arm)), ("order", get_args(AnswerOrder))):
        if key in given and given[key] not in allowed:
            raise BadRequest(f"`moa.{key}` must be one of {', '.join(allowed)}.")
    if "exit" not in given:
        return {**given}
    try:
        return {**given, "exit": read_checked(ExitRule, given["exit"])}
    except InvalidValue as wrong:
        key = f"moa.exit.{wrong.path}".rstrip(".")
        raise BadRequest(f"`{key}` is wrong: {wrong.reason}.") from None


def _whole(given: object, key: str, *, least: int) -> int:
    if type(given) is not int or given < least:
        raise BadRequest(f"`{key}` must be an integer from {least} up.")
    return given


def _question(body: dict[str, Any]) -> Messages | list[int]:
    """The client's messages, or its `input_ids` for models that run without a tokenizer."""
    ids = body.get("input_ids")
    if ids is not None:
        if not is_ids(ids):
            raise BadRequest("`input_ids` must be a list of at least one token id, each an integer from 0 up.")
        return list(ids)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise BadRequest("`messages` must be a list of at least one message object.")
    return messages


def _prompts(body: dict[str, Any]) -> list[Messages | list[int]]:
    """The prompts of a completions request: each becomes a user's message, token ids stay what they are."""
    given = body.get("prompt")
    if is_ids(given):
        return [given]
    prompts = given if isinstance(given, list) else [given]
    found: list[Messages | list[int]] = []
    for prompt in prompts:
        if isinstance(prompt, str) and prompt:
            found.append([{"role": "user", "content": prompt}])
        elif is_ids(prompt):
            found.append(prompt)
    if not prompts or len(found) != len(prompts):
        raise BadRequest("`prompt` must be text, a list of token ids, or a list of either; none may be empty.")
    return found


def is_ids(given: object) -> TypeGuard[list[int]]:
    """Whether it is a list of at least one token id."""
    return isinstance(given, list) and bool(given) and all(type(token) is int and token >= 0 for token in given)
