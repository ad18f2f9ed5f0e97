"""SGLang's own load generator, unchanged, against a router in front of a real pair."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.routers import own_router
from tests.e2e.servers import Servers, nothing_leaked

PROMPTS, INPUT, OUTPUT = 6, 48, 8


@pytest.fixture(scope="module")
def results(servers: Servers, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What it writes for each backend; both run at once, since most of their time is imports."""
    folder = tmp_path_factory.mktemp("bench")
    with own_router(servers) as router:
        running = {}
        for backend, flags in {
            "sglang": [],
            "sglang-oai-chat": [
                *("--model", str(model_folder), "--served-model-name", servers.model),
                *("--extra-request-body", '{"stream_options": {"include_usage": true}}'),
            ],
        }.items():
            arguments = ["--backend", backend, "--base-url", router.url, *flags]
            # Random token ids need no data set; range ratio 1 makes all lengths alike.
            arguments += ["--dataset-name", "random-ids", "--tokenizer", str(model_folder)]
            arguments += ["--num-prompts", f"{PROMPTS}", "--random-input-len", f"{INPUT}"]
            arguments += ["--random-output-len", f"{OUTPUT}", "--random-range-ratio", "1.0"]
            arguments += ["--output-file", str(folder / backend), "--output-details", "--disable-tqdm"]
            running[backend] = subprocess.Popen(
                [sys.executable, "-m", "sglang.bench_serving", *arguments],
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        for process in running.values():
            output, _ = process.communicate(timeout=600)
            assert process.returncode == 0, output
        assert nothing_leaked(router.url)
    return {backend: json.loads((folder / backend).read_text()) for backend in running}


@pytest.mark.parametrize("backend", ["sglang", "sglang-oai-chat"])
def test_every_request_succeeds_with_its_tokens(results: dict[str, Any], backend: str) -> None:
    told = results[backend]
    assert told["backend"] == backend
    assert told["errors"] == [""] * PROMPTS
    assert told["completed"] == PROMPTS
    assert told["input_lens"] == [INPUT] * PROMPTS
    assert told["output_lens"] == [OUTPUT] * PROMPTS
    assert told["total_output_tokens"] == PROMPTS * OUTPUT
    assert all(told["generated_texts"])
    assert all(0 < len(gaps) < OUTPUT for gaps in told["itls"]), "they came in pieces"
    assert len(told["server_info"]["workers"]) == 2
