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


@pytest.mark.parametrize("model", PATHS)
def test_twenty_questions(servers: Servers, tmp_path: Path, model: str) -> None:
    task = (HERE / "capitals.yaml").read_text().replace("DATA_FILE", str(HERE / "capitals.jsonl"))
    (tmp_path / "capitals.yaml").write_text(task)
    url = f"{servers.router}{PATHS[model]}"
    options = (
        f"model=tiny,base_url={url},num_concurrent=4,max_retries=1,tokenized_requests=False,tokenizer_backend=None"
    )
    command = [sys.executable, "-m", "lm_eval", "--model", model, "--model_args", options]
    command += ["--include_path", str(tmp_path), "--tasks", "capitals", "--output_path", str(tmp_path / "out")]
    command += ["--log_samples", *(["--apply_chat_template"] if model == "local-chat-completions" else [])]
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hf"),
        "OPENAI_API_KEY": "x",
    }
    done = subprocess.run(
        command, check=False, env={**os.environ, **offline}, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = (tmp_path / "out").rglob("results_*.json")
    told = json.loads(results.read_text())
    assert told["n-samples"]["capitals"] == {"original": 20, "effective": 20}
    (samples,) = (tmp_path / "out").rglob("samples_*.jsonl")
    answers = [json.loads(line)["resps"][0][0] for line in samples.read_text().splitlines()]
    assert len(answers) == 20
    assert all(answers), "every question got words"
