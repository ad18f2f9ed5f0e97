"""lm-evaluation-harness, unchanged, against a tree."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.servers import Servers

HERE = Path(__file__).parent / "lm_eval"
PATHS = {"local-completions": "/v1/completions", "local-chat-completions": "/v1/chat/completions"}


@pytest.fixture(scope="module")
def outputs(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each model type wrote, one after the other in one process, since importing is most of the time."""
    folders = {model: tmp_path_factory.mktemp(model) for model in PATHS}
    commands = [_arguments(servers, model, folder) for model, folder in folders.items()]
    cache = str(tmp_path_factory.mktemp("hf"))
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": cache, "OPENAI_API_KEY": "x"}
    process = subprocess.run(
        [sys.executable, str(HERE / "several.py"), json.dumps(commands)],
        env={**os.environ, **offline},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=900,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return folders


def _arguments(servers: Servers, model: str, folder: Path) -> list[str]:
    task = (HERE / "capitals.yaml").read_text().replace("DATA_FILE", str(HERE / "capitals.jsonl"))
    (folder / "capitals.yaml").write_text(task)
    url = f"{servers.router}{PATHS[model]}"
    options = (
        f"model=tiny,base_url={url},num_concurrent=4,max_retries=1,tokenized_requests=False,tokenizer_backend=None"
    )
    command = ["--model", model, "--model_args", options]
    command += ["--include_path", str(folder), "--tasks", "capitals", "--output_path", str(folder / "out")]
    return [*command, "--log_samples", *(["--apply_chat_template"] if model == "local-chat-completions" else [])]


@pytest.mark.parametrize("model", PATHS)
def test_twenty_questions(outputs: dict[str, Path], model: str) -> None:
    (results,) = (outputs[model] / "out").rglob("results_*.json")
    told = json.loads(results.read_text())
    assert told["n-samples"]["capitals"] == {"original": 20, "effective": 20}
    (samples,) = (outputs[model] / "out").rglob("samples_*.jsonl")
    answers = [json.loads(line)["resps"][0][0] for line in samples.read_text().splitlines()]
    assert len(answers) == 20
    assert all(answers), "every question got words"
