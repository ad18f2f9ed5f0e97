"""Ids outside the vocabulary that stand for an image: accepted with an image, refused without one."""

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import Struct

from sglang_ext.fixes.request_guard import placeholders, reject_harmful_values

VOCABULARY, IMAGE = 100, 100  # as in Llama 3.2 Vision, the first id behind it


def check(ids: list[int], has_media: bool, **config: object) -> None:
    manager: Any = SimpleNamespace(
        model_config=SimpleNamespace(vocab_size=VOCABULARY, hidden_size=4, hf_config=SimpleNamespace(**config)),
        server_args=SimpleNamespace(disaggregation_mode="null"),
        sampling_params_class=Struct,
    )
    # Without `logprob_start_len`, as an embedding request.
    none = dict.fromkeys(("sampling_params", "lora_id", "lora_path", "positional_embed_overrides"))
    request: Any = SimpleNamespace(contains_mm_input=lambda: has_media, **none)
    reject_harmful_values(manager, request, ids)


def test_a_placeholder_comes_with_an_image() -> None:
    check([1, IMAGE, 2, IMAGE], True, image_token_index=IMAGE)


@pytest.mark.parametrize("ids", [[1, IMAGE, 2], [IMAGE], [1, -200]])
def test_without_an_image_a_placeholder_is_an_id_like_others(ids: list[int]) -> None:
    with pytest.raises(ValueError, match=f"from 0 to 99, got {max(ids, key=abs)}"):
        check(ids, False, image_token_index=IMAGE, video_token_id=-200)


@pytest.mark.parametrize("ids", [[1, IMAGE, 105], [-1, IMAGE], [1, IMAGE + 1], [IMAGE, IMAGE, 101]])
def test_other_ids_outside_are_refused_with_an_image(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="from 0 to 99"):
        check(ids, True, image_token_index=IMAGE)


def test_a_model_of_text_has_no_placeholders() -> None:
    assert placeholders(SimpleNamespace(vocab_size=VOCABULARY, image_token_id=None)) == frozenset()
    with pytest.raises(ValueError, match="got 100"):
        check([IMAGE], True)


def test_all_kinds_of_media_count() -> None:
    config = SimpleNamespace(image_token_id=7, video_token_id=8, audio_token_index=9, pad_token_id=10)
    assert placeholders(config) == {7, 8, 9}
