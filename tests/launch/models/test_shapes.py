"""Sizes of models."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.config.schema import ModelConfig
from launch.errors import ConfigError
from launch.models.dummy import write_dummy_model
from launch.models.lookup import shape_of
from launch.models.shapes import SHAPES, ModelShape

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}


def shape_of_model(model: ModelConfig) -> ModelShape:
    return shape_of(path=model.path, shape=model.shape)


def folder_with(folder: Path, config: dict[str, Any], weights: int = 0) -> ModelConfig:
    (folder / "config.json").write_text(json.dumps(config))
    if weights:
        with (folder / "model.safetensors").open("wb") as file:
            file.truncate(weights)
    return ModelConfig(name="m", path=str(folder))


@pytest.mark.parametrize(
    ("key", "billions"),
    [
        ("qwen3-0.6b", 0.596),
        ("qwen3-1.7b", 1.72),
        ("qwen3-4b", 4.02),
        ("qwen3-8b", 8.19),
        ("qwen3-14b", 14.77),
        ("qwen3-32b", 32.76),
        ("smollm2-135m", 0.1345),
    ],
)
def test_parameters_match_the_published_numbers(key: str, billions: float) -> None:
    assert SHAPES[key].params == pytest.approx(billions * 1e9, rel=0.005)
    assert SHAPES[key].weight_bytes() == 2 * SHAPES[key].params


def test_kv_bytes_per_token() -> None:
    # 2 (keys and values) x layers x key-value heads x head size x 2 bytes
    assert SHAPES["qwen3-8b"].kv_bytes_per_token() == 2 * 36 * 8 * 128 * 2
    assert SHAPES["smollm2-135m"].kv_bytes_per_token() == 23040
    assert SHAPES["smollm2-135m"].kv_bytes_per_token(4) == 46080


DEEPSEEK_V3: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "vocab_size": 129280,
    "v_head_dim": 128,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
}
SPARSE = {"index_topk": 2048, "index_head_dim": 128}


@pytest.mark.parametrize(
    ("more", "element_bytes", "expected"),
    [
        # Of each layer one latent vector of 512 and a rotated key of 64 elements, whatever the number of heads.
        ({}, 2, 61 * (512 + 64) * 2),
        ({}, 1, 61 * (512 + 64)),
        # And an index key of 128 bytes with one scale of 4.
        (SPARSE, 2, 61 * ((512 + 64) * 2 + 132)),
        # In 8 bits the latent vector has 4 scales of 4 bytes, and the rotated key keeps 16 bits.
        (SPARSE, 1, 61 * (512 + 16 + 128 + 132)),
    ],
)
@pytest.mark.parametrize("tp", [1, 8])
def test_latent_attention_caches_one_vector_a_layer(
    tmp_path: Path, more: dict[str, Any], element_bytes: int, expected: int, tp: int
) -> None:
    shape = shape_of_model(folder_with(tmp_path, DEEPSEEK_V3 | more))
    assert shape.kv_bytes_per_token(element_bytes, tp) == expected


def test_heads_are_shared_out_until_there_is_one() -> None:
    shape = SHAPES["qwen3-8b"]
    assert [shape.kv_bytes_per_token(tp=tp) for tp in (1, 2, 8, 16)] == [147456, 73728, 18432, 18432]


def test_values_may_be_of_another_size_than_keys(tmp_path: Path) -> None:
    config = LLAMA | {"head_dim": 192, "v_head_dim": 128}
    assert shape_of_model(folder_with(tmp_path, config)).kv_bytes_per_token() == 30 * 3 * (192 + 128) * 2


@pytest.mark.parametrize(
    ("model", "key"),
    [
        (ModelConfig(name="m", path="Qwen/Qwen3-14B"), "qwen3-14b"),
        (ModelConfig(name="m", path="HuggingFaceTB/SmolLM2-135M-Instruct"), "smollm2-135m"),
        (ModelConfig(name="m", path="builtin:smollm2"), "smollm2-135m"),
        (ModelConfig(name="m", shape="qwen3-1.7b"), "qwen3-1.7b"),
    ],
)
def test_known_models_need_no_files(model: ModelConfig, key: str) -> None:
    assert shape_of_model(model) == SHAPES[key]


def test_a_folder_is_read(tmp_path: Path) -> None:
    shape = shape_of_model(folder_with(tmp_path, LLAMA))
    assert shape == SHAPES["smollm2-135m"]


def test_the_size_of_the_files_is_the_size_of_the_weights(tmp_path: Path) -> None:
    assert shape_of_model(folder_with(tmp_path, LLAMA, weights=1000)).weight_bytes() == 1000
    as_float32 = folder_with(tmp_path, LLAMA | {"torch_dtype": "float32"}, weights=1000)
    assert shape_of_model(as_float32).weight_bytes() == 500, "served in 16 bits"
    assert shape_of_model(as_float32).weight_bytes(4) == 1000


def test_absent_keys_take_their_usual_meaning(tmp_path: Path) -> None:
    bare = {key: LLAMA[key] for key in LLAMA if key not in ("num_key_value_heads", "tie_word_embeddings")}
    shape = shape_of_model(folder_with(tmp_path, bare | {"rope_scaling": {"factor": 4}}))
    assert (shape.kv_heads, shape.head_dim, shape.tied_embeddings, shape.max_context) == (9, 64, False, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not the config of a decoder-only"),
        ("[]", "not the config of a decoder-only"),
        ('{"hidden_size": 1}', "the key num_attention_heads is missing"),
        ('{"hidden_size": "x", "num_attention_heads": 1}', "not the config of a decoder-only"),
    ],
)
def test_a_broken_config_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=message) as refused:
        shape_of_model(ModelConfig(name="m", path=str(tmp_path)))
    assert str(tmp_path / "config.json") in str(refused.value)


def test_an_unknown_hub_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="hf download no-such/model-here"):
        shape_of_model(ModelConfig(name="m", path="no-such/model-here"))


@pytest.mark.parametrize("key", list(SHAPES))
def test_a_dummy_model_has_the_shape_it_was_made_from(tmp_path: Path, key: str) -> None:
    folder = tmp_path / "dummy"
    assert write_dummy_model(key, folder) == folder
    write_dummy_model(key, folder)
    assert [file.name for file in folder.iterdir()] == ["config.json"], "no temporary file is left"
    assert shape_of_model(ModelConfig(name="m", path=str(folder))) == SHAPES[key]


def test_a_dummy_qwen3_is_what_transformers_expects(tmp_path: Path) -> None:
    config = json.loads((write_dummy_model("qwen3-8b", tmp_path) / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["rope_theta"] == 1_000_000
    assert config["head_dim"] == 128


def test_a_dummy_model_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_dummy_model("qwen3-8b", tmp_path / "file" / "below")
    with pytest.raises(ConfigError, match="no shape qwen9"):
        write_dummy_model("qwen9", tmp_path)
