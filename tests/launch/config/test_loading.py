"""Config files: what is read, and the one sentence for what is wrong."""

import json
from pathlib import Path

import pytest

from launch.config.loading import first_models, load_config, single_model
from launch.config.schema import ModelConfig
from launch.errors import ConfigError

GOOD = "{models: [{name: a, shape: qwen3-4b}], context_length: 64}"


def write(folder: Path, text: str) -> Path:
    file = folder / "my.yaml"
    file.write_text(text)
    return file


def refusal(folder: Path, text: str) -> str:
    file = write(folder, text)
    with pytest.raises(ConfigError) as refused:
        load_config(file, device="cpu")
    message = str(refused.value)
    assert str(file) in message
    assert "\n" not in message
    assert message.endswith(".")
    return message.replace(f"{file}: ", "")


def test_the_shipped_defaults() -> None:
    cpu, gpu = load_config(None, device="cpu"), load_config(None, device="gpu")
    assert [model.name for model in cpu.models] == ["smollm2-a", "smollm2-b", "smollm2-c"]
    assert {model.path for model in cpu.models} == {"builtin:smollm2"}
    assert len({json.dumps(model.sampling) for model in cpu.models}) == 3
    assert (cpu.context_length, cpu.max_total_tokens) == (4096, 8192)
    assert [model.path for model in gpu.models] == ["Qwen/Qwen3-4B", "Qwen/Qwen3-8B", "Qwen/Qwen3-32B"]
    assert (gpu.attention_backend, gpu.sampling_backend, gpu.context_length) == ("flashinfer", "flashinfer", 16384)


def test_a_shipped_config_is_found_by_name_unless_a_file_has_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_config(Path("h200-dummy"), device="gpu").models[2].shape == "qwen3-14b"
    assert [model.is_plain for model in load_config(Path("mixed"), device="cpu").models] == [False, True]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "h200-dummy").write_text(GOOD)
    assert load_config(Path("h200-dummy"), device="gpu").models[0].name == "a"


def test_json_and_yaml_are_both_read(tmp_path: Path) -> None:
    as_yaml = load_config(write(tmp_path, GOOD), device="cpu")
    text = '{"models": [{"name": "a", "shape": "qwen3-4b"}], "context_length": 64}'
    assert load_config(write(tmp_path, text), device="cpu") == as_yaml


def test_numbers_where_text_is_meant_are_taken(tmp_path: Path) -> None:
    text = "{models: [{name: a, shape: qwen3-4b}], context_length: 64, env: {A: 1}, server_args: [--x, 2]}"
    config = load_config(write(tmp_path, text), device="cpu")
    assert config.env == {"A": "1"}
    assert config.server_args == ["--x", "2"]


def test_a_relative_folder_starts_at_the_config(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    config = load_config(write(tmp_path, "{models: [{name: a, path: ./model}], context_length: 64}"), device="cpu")
    assert config.models[0].path == str(tmp_path / "model")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "this is not YAML or JSON at line 1"),
        ("models", "the file must be a mapping with the keys models, context_length"),
        ("{models: [], context_length: 64}", "the key models "),
        ("{models: [{name: a, shape: qwen3-4b}]}", "the key context_length is missing"),
        (
            "{models: [{name: a, shape: qwen3-4b}], contextlength: 64}",
            "the key contextlength is unknown, did you mean context_length; allowed are models, context_length",
        ),
        (
            "{models: [{name: a, pth: x}], context_length: 64}",
            "the key models.0.pth is unknown, did you mean path; allowed are name, path",
        ),
        ("{models: [{name: a, pat: x, shape: 3, tq: 1}], context_length: 6}", "the key models.0.pat is unknown"),
        ("{models: x, context_length: 64}", "the key models must be a list, not 'x'"),
        ("{models: [x], context_length: 64}", "the key models.0 must be a mapping, not 'x'"),
        (
            "{models: [{name: a, shape: qwen3-4b}], context_length: ten}",
            "the key context_length must be a whole number, not 'ten'",
        ),
        ("{models: [{name: a, shape: qwen3-4b}], context_length: 1.5}", "context_length must be a whole number"),
        (
            "{models: [{name: a, shape: qwen3-4b}], context_length: 0}",
            "the key context_length must be at least 1, not 0",
        ),
        ("{models: [{name: a, shape: qwen3-4b, tp: 0}], context_length: 64}", "models.0.tp must be at least 1"),
        ("{models: [{name: [a], shape: qwen3-4b}], context_length: 64}", "models.0.name must be text"),
        ("{models: [{name: a}], context_length: 64}", "the key models.0 must have exactly one of path and shape"),
        (
            "{models: [{name: a, path: x/y, shape: qwen3-4b}], context_length: 64}",
            "models.0 must have exactly one of path and shape",
        ),
        (
            "{models: [{name: a, shape: qwen3-5b}], context_length: 64}",
            "the key models.0.shape names the unknown shape 'qwen3-5b', did you mean qwen3-",
        ),
        ("{models: [{name: a, path: ./nowhere}], context_length: 64}", "nowhere, which does not exist"),
        ("{models: [{name: a, path: 'builtin:smol'}], context_length: 64}", "did you mean builtin:smollm2"),
        ("{models: [{name: a b, shape: qwen3-4b}], context_length: 64}", "models.0.name must be letters"),
        ("{models: [{name: moa, shape: qwen3-4b}], context_length: 64}", "models.0.name may not be 'moa'"),
        (
            "{models: [{name: a, shape: qwen3-4b, dtype: bf16}], context_length: 64}",
            "models.0.dtype names the unknown dtype 'bf16'",
        ),
        (
            "{models: [{name: a, shape: qwen3-4b, sampling: {temprature: 1}}], context_length: 64}",
            "models.0.sampling has the unknown parameter temprature, did you mean temperature",
        ),
        (
            "{models: [{name: a, shape: qwen3-4b, sampling: {top_p: high}}], context_length: 64}",
            "models.0.sampling must give top_p a number, not 'high'",
        ),
        (
            "{models: [{name: a, shape: qwen3-4b}, {name: a, shape: qwen3-8b}], context_length: 64}",
            "the file has two models named a",
        ),
        (
            "{models: [{name: a, shape: qwen3-4b}], context_length: 64, max_total_tokens: 63}",
            "max_total_tokens 63 below context_length 64",
        ),
        (
            "{models: [{name: a, shape: qwen3-4b}], context_length: 64, server_args: [--port=1]}",
            "the key server_args may not set --port; it comes from the plan, which chooses the ports",
        ),
        (
            "{models: [{name: a, shape: qwen3-4b}], context_length: 64, router_args: [--tls-cert-path, a.pem]}",
            "the key router_args may not set --tls-cert-path: the launcher asks its router without TLS",
        ),
        (
            "{models: [{name: a, shape: qwen3-4b, decode_args: [--tp, 2]}], context_length: 64}",
            "models.0.decode_args may not set --tp; it comes from the key models.N.tp",
        ),
        (
            "{models: [{name: a, shape: qwen3-4b}], context_length: 64, tree: 3}",
            "the key tree must be the name of a shipped tree or a mapping, not 3",
        ),
        ("{models: [{name: a, shape: qwen3-4b}], context_length: 64, env: 1}", "the key env must be a mapping, not 1"),
        (
            "{models: [{name: a, path: x/y, engine: vlm}], context_length: 64}",
            "the key models.0.engine names the unknown engine 'vlm', did you mean vllm; allowed are sglang, vllm",
        ),
        (
            "{models: [{name: a, path: x/y, engine: vllm, disaggregated: true}], context_length: 64}",
            "models.0 may not be disaggregated: true, since only SGLang has pairs here",
        ),
        (
            "{models: [{name: a, path: x/y, disaggregated: half}], context_length: 64}",
            "models.0.disaggregated must be true or false, not 'half'",
        ),
        (
            "{models: [{name: a, shape: qwen3-4b, engine: vllm}], context_length: 64}",
            "models.0 has a shape, but vLLM's server answers with text and needs a tokenizer; give a path",
        ),
        (
            "{models: [{name: a, path: x/y, engine: vllm, sampling: {max_new_tokens: 8}}], context_length: 64}",
            "models.0 has the sampling parameter max_new_tokens, for which vLLM has no default of a server",
        ),
        (
            "{models: [{name: a, path: x/y, engine: vllm, server_args: [--max_model_len, 8]}], context_length: 64}",
            "models.0 may not set --max_model_len; it comes from the key context_length",
        ),
        (
            "{models: [{name: a, path: x/y, disaggregated: false, server_args: [--port=1]}], context_length: 64}",
            "models.0 may not set --port; it comes from the plan, which chooses the ports",
        ),
        (
            "{models: [{name: a, path: x/y, disaggregated: false, decode_args: [--x]}], context_length: 64}",
            "models.0 has decode_args, but one plain server does both; use server_args",
        ),
        (
            "{models: [{name: a, path: x/y, vllm_python: /bin/sh}], context_length: 64}",
            "models.0 has vllm_python, but its engine is sglang",
        ),
        (
            "{models: [{name: a, path: x/y, engine: vllm, vllm_python: ./no/python}], context_length: 64}",
            "no/python, which is no program here; give the python of the environment that has vLLM",
        ),
        (
            "{models: [{name: a, path: x/y}], context_length: 64, vllm_python: /bin/sh}",
            "the file has vllm_python, but no model with engine: vllm",
        ),
        *(
            (
                f"{{models: [{{name: a, path: x/y, engine: vllm}}], context_length: 64, {key}}}",
                f"the file has {key.partition(':')[0]}, which is for SGLang's servers, but every model runs on vLLM",
            )
            for key in ("attention_backend: triton", "sampling_backend: pytorch", "server_args: [--x]")
        ),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text)


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    message = refusal(tmp_path, "{models: [{name: a, path: empty}], context_length: 64}")
    assert f"{tmp_path / 'empty'}, which has no config.json" in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read: No such file"):
        load_config(tmp_path / "none.yaml", device="cpu")


def test_hetero_takes_the_first_models() -> None:
    config = load_config(None, device="cpu")
    assert [model.name for model in first_models(config, 2).models] == ["smollm2-a", "smollm2-b"]
    with pytest.raises(ConfigError, match="asks for 4 models, but the config has 3"):
        first_models(config, 4)
    with pytest.raises(ConfigError, match="asks for no model"):
        first_models(config, 0)


def test_a_single_model_takes_the_defaults_of_the_device() -> None:
    config = single_model("Qwen/Qwen3-8B", "gpu")
    assert config.models == [ModelConfig(name="qwen3-8b", path="Qwen/Qwen3-8B")]
    assert config.attention_backend == "flashinfer"
    assert single_model("builtin:smollm2", "cpu").models[0].name == "smollm2"
    assert single_model("builtin:smollm2", "gpu").context_length == 8192, "as long as the model was made for"


def test_an_unknown_single_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path}/nothing, which does not exist"):
        single_model(f"{tmp_path}/nothing", "cpu")
    with pytest.raises(ConfigError, match="the model no-such/model-here is neither a folder"):
        single_model("no-such/model-here", "cpu")


def test_who_serves_a_model(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    python = tmp_path / "env" / "python"
    python.symlink_to("/bin/sh")
    models = [
        "{name: pair, path: x/y}",
        "{name: plain, path: x/y, disaggregated: false, server_args: [--x]}",
        "{name: one, path: x/y, engine: vllm, sampling: {top_k: 3}, server_args: [--max-num-seqs, 4]}",
        "{name: other, path: x/y, engine: vllm, disaggregated: false, vllm_python: ./env/python}",
    ]
    text = f"{{models: [{', '.join(models)}], context_length: 64, attention_backend: triton, vllm_python: sh}}"
    config = load_config(write(tmp_path, text), device="gpu")
    assert [(model.engine, model.is_plain) for model in config.models] == [
        ("sglang", False),
        ("sglang", True),
        ("vllm", True),
        ("vllm", True),
    ]
    assert config.models[3].vllm_python == str(python), "the link makes the environment"
    assert config.vllm_python is not None
    assert Path(config.vllm_python).is_absolute()
