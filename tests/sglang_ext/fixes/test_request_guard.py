"""Requests, of SGLang's own types, that would end a server or be answered with 500."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sglang.srt.managers.embed_types import PositionalEmbeds
from sglang.srt.managers.io_struct import EmbeddingReqInput, GenerateReqInput
from sglang.srt.sampling.sampling_params import SamplingParams

from sglang_ext.fixes.misfits import refuse_misfits
from sglang_ext.fixes.request_guard import reject_harmful_values

pytestmark = pytest.mark.servers  # imports SGLang
WIDTH = 4


def manager(*allowed: str, metrics: bool = True) -> Any:
    """What the guard looks at of a tokenizer manager (a fake, for a real one loads a model)."""
    args = SimpleNamespace(
        disaggregation_mode="null", enable_metrics=metrics, tokenizer_metrics_allowed_custom_labels=[*allowed]
    )
    config = SimpleNamespace(vocab_size=100, hidden_size=WIDTH, hf_config=SimpleNamespace())
    return SimpleNamespace(model_config=config, server_args=args, sampling_params_class=SamplingParams)


def checked(obj: Any, of: Any = None) -> None:
    refuse_misfits(type(obj).normalize_batch_and_arguments, obj)
    reject_harmful_values(of or manager(), obj, None)


@pytest.mark.parametrize("kind", [GenerateReqInput, EmbeddingReqInput])
def test_an_ordinary_request_passes(kind: Any) -> None:
    checked(kind(text="a"))
    checked(kind(text="a", sampling_params={"max_new_tokens": 2, "top_k": 5}))


@pytest.mark.parametrize("kind", [GenerateReqInput, EmbeddingReqInput])
@pytest.mark.parametrize("given", [[], ["x"], [None], "x"], ids=str)
def test_an_adapters_id_is_the_servers_own(kind: Any, given: Any) -> None:
    with pytest.raises(ValueError, match=r"`lora_id` (must be one value|is set by the server)"):
        checked(kind(text="a", lora_id=given))


def test_the_id_that_the_server_found_passes() -> None:
    checked(GenerateReqInput(text="a", lora_path="mine", lora_id="0f3a"))


def test_labels_of_metrics() -> None:
    request = {"text": "a", "custom_labels": {"team": "b"}}
    with pytest.raises(ValueError, match="`custom_labels` has 'team'"):
        checked(GenerateReqInput(**request))
    checked(GenerateReqInput(**request), manager("team"))
    checked(GenerateReqInput(**request), manager(metrics=False))


def test_sampling_parameters_beside_what_is_embedded() -> None:
    with pytest.raises(ValueError, match="`top_k` must be"):
        checked(EmbeddingReqInput(text="a", sampling_params={"top_k": 2**40}))
    with pytest.raises(ValueError, match="`logit_bias` does not fit"):
        checked(EmbeddingReqInput(text="a", sampling_params={"logit_bias": {"5": "x"}}))


def test_vectors_in_place_of_embeddings() -> None:
    for width in (1, WIDTH - 1):
        with pytest.raises(ValueError, match=f"must have {WIDTH} numbers, got {width}"):
            checked(EmbeddingReqInput(input_ids=[1, 2], embed_overrides=[torch.zeros(width)]))
        places = PositionalEmbeds(embeds=torch.zeros(1, width), positions=[0])
        with pytest.raises(ValueError, match=f"must have {WIDTH} numbers, got {width}"):
            checked(GenerateReqInput(input_ids=[1, 2], positional_embed_overrides=places))
    checked(EmbeddingReqInput(input_ids=[1, 2], embed_overrides=[torch.zeros(WIDTH)]))
    with pytest.raises(ValueError, match="no JSON can say it"):
        checked(GenerateReqInput(input_ids=[1, 2], positional_embed_overrides={"embeds": 1}))


MISFITS: list[dict[str, Any]] = [
    {"input_embeds": []},
    {"text": "a", "sampling_params": []},
    {"text": "a", "sampling_params": [{}]},
    {"text": ["a", "b"], "sampling_params": [{}]},
    {"text": ["a", "b"], "return_logprob": [True]},
    {"text": ["a", "b"], "top_logprobs_num": [1]},
    {"text": ["a", "b"], "lora_path": ["x"]},
    {"text": ["a", "b"], "token_ids_logprob": [[1]]},
    {"text": ["a", "b"], "custom_logit_processor": ["x"]},
]


def taken_apart(obj: GenerateReqInput) -> None:
    """What the HTTP process does with a request of two prompts."""
    refuse_misfits(GenerateReqInput.normalize_batch_and_arguments, obj)
    for index in range(2):
        refuse_misfits(GenerateReqInput.__getitem__, obj, index)


@pytest.mark.parametrize("fields", MISFITS, ids=str)
def test_lists_that_do_not_fit_are_the_clients_fault(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"fit together|length|must"):
        taken_apart(GenerateReqInput(**fields))
