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
SEVERAL = Path(__file__).parent / "bench_serving" / "several.py"


@pytest.fixture(scope="module")
def results(servers: Servers, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What it writes for each backend, one after the other in one process, since most of the time is imports."""
    folder = tmp_path_factory.mktemp("bench")
    backends = {
        "sglang": [],
        "sglang-oai-chat": [
            *("--model", str(model_folder), "--served-model-name", servers.model),
            *("--extra-request-body", '{"stream_options": {"include_usage": true}}'),
        ],
    }
    with own_router(servers) as router:
        runs = []
        for backend, flags in backends.items():
            arguments = ["--backend", backend, "--base-url", router.url, *flags]
            # Random token ids need no data set; range ratio 1 makes all lengths alike.
            arguments += ["--dataset-name", "random-ids", "--tokenizer", str(model_folder)]
            arguments += ["--num-prompts", f"{PROMPTS}", "--random-input-len", f"{INPUT}"]
            arguments += ["--random-output-len", f"{OUTPUT}", "--random-range-ratio", "1.0"]
            arguments += ["--output-file", str(folder / backend), "--output-details", "--disable-tqdm"]
            runs.append(arguments)
        done = subprocess.run(
            [sys.executable, str(SEVERAL), json.dumps(runs)],
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert nothing_leaked(router.url)
    return {backend: json.loads((folder / backend).read_text()) for backend in backends}


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
