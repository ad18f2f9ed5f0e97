"""Reads and checks a client's request to a tree, before the first agent starts."""

from dataclasses import dataclass
from typing import Any, TypeGuard, get_args

from msgspec.structs import replace

from router.config.structs import InvalidValue, read_struct
from router.early_exit import ExitRule
from router.errors import BadRequest
from router.moa.messages import Messages, read_messages, template_options
from router.moa.openai_format import EndpointKind
from router.moa.request_fields import refuse_fields
from router.moa.sampling import FORWARDED_SAMPLING, requested_sampling
from router.moa.sampling_values import check_sampling_values
from router.moa.tree import Arm, Tree
from router.speculative_prefill.composition import AnswerOrder

TREE_OPTIONS = ("arm", "order", "exit", "seed", "sampling")  # keys of a request's `moa`
MAX_ANSWERS = 16  # final answers of one request


@dataclass(frozen=True)
class TreeRequest:
    """One request to a tree.

    Attributes:
        kind: The API it came by.
        tree: The tree, with what the request changes of it.
        questions: Messages or token ids, one entry for each run.
        sampling: For the final agent, by OpenAI's names.
        agent_sampling: By agent, over everything else; `final#2` is the second of n final answers.
        template_options: For the chat templates of all agents' prompts.
        n: Final answers of each run.
        seed: Of the runs' early exits; None takes a random one.
        stream: Whether the client gets the text as it comes.
        include_usage: Whether the last chunk has the usage.
    """

    kind: EndpointKind
    tree: Tree
    questions: list[Messages | list[int]]
    sampling: dict[str, Any]
    agent_sampling: dict[str, dict[str, Any]]
    template_options: dict[str, Any]
    n: int
    seed: int | None
    stream: bool
    include_usage: bool

    @property
    def calls(self) -> int:
        """The number of LLM calls that it takes."""
        return len(self.questions) * (sum(1 for _ in self.tree.agents()) + self.n - 1)


def read_tree_request(body: dict[str, Any], kind: EndpointKind, tree: Tree) -> TreeRequest:
    """Read a request's body; raises `BadRequest` with the first thing that is wrong."""
    refuse_fields(body, "tree")
    path = "/v1/chat/completions" if kind == "chat" else "/v1/completions"
    check_sampling_values(body, path)
    for name in ("prompt",) if kind == "chat" else ("messages", "input_ids"):
        if body.get(name) is not None:
            raise BadRequest(f"`{name}` belongs to another path than this one; leave it out.")
    sampling = requested_sampling(body)
    n = _check_integer(body.get("n") or 1, "n", minimum=1)
    options = _tree_options(body.get("moa"))
    agent_sampling = _agent_sampling(options.pop("sampling", None), tree, n, path)
    seed = options.pop("seed", body.get("seed"))
    if seed is not None:
        _check_integer(seed, "seed", minimum=0)
    stream_options = body.get("stream_options") or {}
    if not isinstance(stream_options, dict):
        raise BadRequest("`stream_options` must be an object.")
    questions = _completion_questions(body) if kind == "completion" else [_chat_question(body)]
    if n * len(questions) > MAX_ANSWERS:
        raise BadRequest(f"{n * len(questions)} answers are asked for; a tree gives up to {MAX_ANSWERS} a request.")
    return TreeRequest(
        kind=kind,
        tree=replace(tree, **options),
        questions=questions,
        sampling=sampling,
        agent_sampling=agent_sampling,
        template_options=template_options(body),
        n=n,
        seed=seed,
        stream=bool(body.get("stream")),
        include_usage=bool(stream_options.get("include_usage")),
    )


def _tree_options(options: object) -> dict[str, Any]:
    """The request's `moa`, checked: arm, order and exit rule; seed and sampling as they came."""
    if options is None:
        return {}
    if not isinstance(options, dict) or options.keys() - set(TREE_OPTIONS):
        raise BadRequest(f"`moa` must be an object with {', '.join(f'`{key}`' for key in TREE_OPTIONS)} only.")
    for key, allowed in (("arm", get_args(Arm)), ("order", get_args(AnswerOrder))):
        if key in options and options[key] not in allowed:
            raise BadRequest(f"`moa.{key}` must be one of {', '.join(allowed)}.")
    if "exit" not in options:
        return {**options}
    try:
        return {**options, "exit": read_struct(ExitRule, options["exit"])}
    except InvalidValue as wrong:
        key = f"moa.exit.{wrong.path}".rstrip(".")
        raise BadRequest(f"`{key}` is wrong: {wrong.reason}.") from None


def _agent_sampling(given: object, tree: Tree, n: int, path: str) -> dict[str, dict[str, Any]]:
    """The request's `moa.sampling`, checked: sampling parameters by agent."""
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(sampling, dict) for sampling in given.values()):
        raise BadRequest("`moa.sampling` must be an object with an object of sampling parameters for each agent.")
    answers = range(2, min(n, MAX_ANSWERS) + 1)  # too many are refused elsewhere
    known = {agent.name for _, _, agent in tree.agents()} | {f"{tree.final.name}#{k}" for k in answers}
    asked: dict[str, dict[str, Any]] = {}
    for name, sampling in given.items():
        if name not in known:
            raise BadRequest(f"`moa.sampling` names {name[:64]!r}, which is no agent of the tree {tree.name!r}.")
        wrong = next((key for key in sampling if key not in FORWARDED_SAMPLING), None)
        if wrong is not None:
            raise BadRequest(f"`moa.sampling.{name}` has {wrong[:64]!r}, which is no sampling parameter here.")
        try:
            check_sampling_values(sampling, path)
        except BadRequest as error:
            raise BadRequest(f"`moa.sampling.{name}` is wrong: {error}") from None
        asked[name] = requested_sampling(sampling)
    return asked


def _check_integer(value: object, key: str, *, minimum: int) -> int:
    if type(value) is not int or value < minimum:
        raise BadRequest(f"`{key}` must be an integer from {minimum} up.")
    return value


def _chat_question(body: dict[str, Any]) -> Messages | list[int]:
    """The client's messages, or its `input_ids` for models that run without a tokenizer."""
    ids = body.get("input_ids")
    if ids is not None:
        if not _is_token_ids(ids):
            raise BadRequest("`input_ids` must be a list of at least one token id, each an integer from 0 up.")
        return list(ids)
    return read_messages(body.get("messages"))


def _completion_questions(body: dict[str, Any]) -> list[Messages | list[int]]:
    """One question for each prompt: a text becomes a user's message, token ids stay token ids."""
    given = body.get("prompt")
    if _is_token_ids(given):
        return [given]
    prompts = given if isinstance(given, list) else [given]
    questions: list[Messages | list[int]] = []
    for prompt in prompts:
        if isinstance(prompt, str) and prompt:
            questions.append([{"role": "user", "content": prompt}])
        elif _is_token_ids(prompt):
            questions.append(prompt)
    if not prompts or len(questions) != len(prompts):
        raise BadRequest("`prompt` must be text, a list of token ids, or a list of either; none may be empty.")
    return questions


def _is_token_ids(value: object) -> TypeGuard[list[int]]:
    """Whether a value is a list of at least one token id."""
    return isinstance(value, list) and bool(value) and all(type(token) is int and token >= 0 for token in value)
