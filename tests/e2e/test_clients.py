"""The stock OpenAI client against the router, with a model and with a tree."""

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.e2e.servers import Servers, is_quiet, wait_for

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of Italy?"}]


@pytest.fixture
def client(servers: Servers) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{servers.router}/v1", api_key="unused")


def test_models(client: openai.OpenAI, servers: Servers, paged: Servers) -> None:
    models = client.models.list().data
    assert [model.id for model in models] == [servers.model, paged.model, "moa", "small", "tiny"]
    assert [client.models.retrieve(model.id) for model in models] == models


def test_chat_and_stream_agree(client: openai.OpenAI, servers: Servers) -> None:
    whole = client.chat.completions.create(model=servers.model, messages=QUESTION, temperature=0, max_tokens=16)
    pieces = client.chat.completions.create(
        model=servers.model, messages=QUESTION, temperature=0, max_tokens=16, stream=True
    )
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == whole.choices[0].message.content


def test_completions(client: openai.OpenAI, servers: Servers) -> None:
    answer = client.completions.create(
        model=servers.model, prompt="The capital of France is", max_tokens=4, temperature=0
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


def test_a_tree_answers_like_a_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="moa", messages=QUESTION, max_tokens=16)
    assert answer.choices[0].message.content
    agents = answer.model_extra["moa"]["agents"] if answer.model_extra else []
    assert [agent["layer"] for agent in agents] == [0] * 9 + [1] * 3 + [2]
    for before, after in (("proposers-1", "aggregator-1"), ("aggregators", "final")):
        ends = [agent["end"] for agent in agents if agent["cluster"] == before]
        start = next(agent["start"] for agent in agents if agent["agent"] == after)
        assert max(ends) <= start
    assert answer.usage is not None
    assert answer.usage.completion_tokens == sum(agent["completion_tokens"] for agent in agents)


def test_leaving_a_tree_frees_everything(client: openai.OpenAI, servers: Servers) -> None:
    impatient = client.with_options(timeout=0.5, max_retries=0)
    with pytest.raises(openai.APITimeoutError):
        impatient.chat.completions.create(model="moa", messages=[{"role": "user", "content": "Count to 1000."}])
    assert wait_for(lambda: is_quiet(servers.prefill) and is_quiet(servers.decode))
