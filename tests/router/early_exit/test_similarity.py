"""What the judge's process makes of requests that compare answers by their hidden states."""

import math

import pytest
import torch
from qmetric import correlation_cosine

from router.early_exit.embedder import Embedder
from router.early_exit.hidden_states import HiddenStates
from router.early_exit.judge_main import Request, process_batch

WIDTH = 6


class Model:
    """Hidden states by a table of random vectors (a fake: a real model takes seconds to load)."""

    def __init__(self) -> None:
        self.read: list[list[str]] = []
        self._words = torch.randn((256, WIDTH), generator=torch.Generator().manual_seed(1))

    def states(self, texts: list[str]) -> list[torch.Tensor]:
        self.read.append(texts)
        return [self.of(text) for text in texts]

    def of(self, text: str) -> torch.Tensor:
        return self._words[torch.tensor(list(text.encode()))]


def embedder(model: Model, cache_size: int = 1 << 20) -> Embedder:
    tokens = HiddenStates(model.states, torch.zeros(0, WIDTH), cache_size)
    return Embedder(lambda texts: torch.ones(len(texts), 4), torch.zeros(4), tokens=tokens)


def request(number: int, texts: list[str], similarity: str = "correlation", deadline: float = math.inf) -> Request:
    fixed = {"gamma": 0.5, "tau": 0.7, "m": 1, "deadline": deadline}
    return {"id": number, "texts": texts, "confidences": [0.8] * len(texts), "similarity": similarity, **fixed}


def test_requests_of_both_kinds_in_one_batch() -> None:
    model = Model()
    texts = ["one answer", "another one", "x"]
    requests = [
        request(0, ["a", "b"], "pooled"),
        request(1, texts),
        request(2, ["a", "b"], "pooled", deadline=0.0),
        request(3, ["one answer", " "]),
    ]
    found = {response["id"]: response for response in process_batch(requests, embedder(model))}
    assert found[0]["P"] == pytest.approx(1)
    assert "problem" in found[2]
    wanted = correlation_cosine([model.of(text) for text in texts])
    assert torch.allclose(torch.tensor(found[1]["S"]), wanted, atol=1e-6)
    p = (wanted[0, 1] + wanted[0, 2] + wanted[1, 2]).item() / 3
    assert (found[1]["C"], found[1]["P"]) == (pytest.approx(0.8), pytest.approx(p, abs=1e-5))
    assert found[1]["Q"] == pytest.approx(math.sqrt(0.8 * (1 - abs(p - 0.7) / 0.7)), abs=1e-5)
    assert (found[3]["P"], found[3]["S"][1]) == (0, [0, 0])
    assert model.read == [["one answer", "another one", "x"]]


def test_a_text_is_read_once_while_it_is_kept() -> None:
    model = Model()
    kept = embedder(model, cache_size=5 * WIDTH)
    process_batch([request(0, ["ab", "cd"])], kept)
    process_batch([request(1, ["ab", "cd", "ef"])], kept)
    assert model.read == [["ab", "cd"], ["ef"]]
    process_batch([request(2, ["ab", "ef"])], kept)
    assert model.read[2:] == [["ab"]], "the oldest made room"


def test_a_model_without_hidden_states() -> None:
    without = Embedder(lambda texts: torch.ones(len(texts), 4), torch.zeros(4))
    (response,) = process_batch([request(0, ["a", "b"])], without)
    assert "the embedding model has no hidden states of tokens: use the similarity pooled" in response["problem"]
