"""Models of the Hugging Face hub that are not in the local cache, with a hub of our own that serves one of them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.machine.units import GIB
from tests.launch.http_server import QuietHandler, serving

CONFIG = json.dumps(
    {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
    }
).encode()
FILES = {"config.json": len(CONFIG), "a.safetensors": GIB, "b.safetensors": GIB // 2, "original/c.safetensors": 8 * GIB}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(QuietHandler):
    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        status, content, headers = 200, b"", {"ETag": '"e"', "X-Repo-Commit": COMMIT}
        if path.startswith("/api/models/acme/small"):
            siblings = [{"rfilename": name, "size": size} for name, size in FILES.items()]
            content = json.dumps({"id": "acme/small", "sha": COMMIT, "siblings": siblings}).encode()
        elif path.startswith("/acme/small/resolve/") and path.endswith("/config.json"):
            content = CONFIG
        elif "acme/gated" in path:
            status, headers["X-Error-Code"] = 403, "GatedRepo"
        else:
            status, headers["X-Error-Code"] = 404, "RepoNotFound"
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with serving(Hub) as port:
        yield f"http://127.0.0.1:{port}"


def plan(model: str, cache: Path, hub: str, **more: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(cache), "CUDA_VISIBLE_DEVICES": "", "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, "-m", "launch.pd", "--dry-run", "--model", model],
        env={**env, **more},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_model_that_is_not_cached_is_planned_with_the_hubs_figures(tmp_path: Path, hub: str) -> None:
    done = plan("acme/small", tmp_path, hub)
    assert done.returncode == 0, done.stderr
    # 1.5 GiB of weights, 8192 tokens of 23,040 bytes, and 0.7 GiB of the process.
    assert done.stdout.count(f"{1.5 + 8192 * 23040 / GIB + 0.7:.1f} GiB") >= 2
    assert "--model-path acme/small" in done.stdout


@pytest.mark.parametrize(
    ("model", "offline", "words"),
    [
        ("acme/none", "0", "the hub has no model acme/none that may be read"),
        ("acme/gated", "0", "the model acme/gated is gated; accept its terms"),
        ("acme/small", "1", "the hub gave no config.json of it; download it (`hf download acme/small`)"),
    ],
)
def test_why_it_cannot_be_planned_is_one_sentence(
    tmp_path: Path, hub: str, model: str, offline: str, words: str
) -> None:
    done = plan(model, tmp_path, hub, HF_HUB_OFFLINE=offline)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
