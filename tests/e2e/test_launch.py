"""The launcher as a command: the main job, crashes, and leaving nothing behind."""

import re
import signal
from pathlib import Path
from typing import Any

import yaml
from msgspec import to_builtins

from launch.config.loading import CONFIGS
from launch.moa.trees_file import LAUNCHED_TREE
from router.moa.tree_files import load_trees
from tests.e2e.launched import Launched


def short_tree() -> dict[str, Any]:
    """The tree that is launched by default, with short answers: what agents say is not the subject here."""
    tree: dict[str, Any] = to_builtins(load_trees(Path(LAUNCHED_TREE)).trees[0])
    for layer in tree["layers"]:
        for cluster in layer["clusters"]:
            for agent in cluster["agents"]:
                agent |= {"max_tokens": 12, "sampling": {"ignore_eos": True}}
    return {key: value for key, value in tree.items() if key in ("arm", "layers")}


def test_the_main_job(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load((CONFIGS / "cpu.yaml").read_text()) | {"tree": short_tree()}))
    arguments = ["--hetero", "3", "--config", str(config), "--ask", "Why is the sky blue?", "--report", str(report)]
    # No proxy may come between the servers: nothing listens on the port of `discard`.
    launched = Launched(arguments, tmp_path, http_proxy="http://127.0.0.1:9", ALL_PROXY="http://127.0.0.1:9")
    assert launched.popen.wait(900) == 0, launched.text()
    text = launched.text()
    for model in ("smollm2-a", "smollm2-b", "smollm2-c"):
        assert f"{model}-prefill" in text
        assert f"{model}-decode" in text
    agent = r"(proposer-\d+|aggregator-\d|final) +(smollm2-[abc])"
    rows = re.findall(rf"^{agent} +(\d+) +(\d+) +(\S+) +(\S+) +(\S+)$", text, re.M)
    assert len(rows) == 13
    assert {model for _, model, *_ in rows} == {"smollm2-a", "smollm2-b", "smollm2-c"}
    for _, _, prompt, output, start, first, end in rows:
        assert int(prompt) > 20
        assert int(output) > 0
        assert float(start) <= float(first) <= float(end)
    assert re.search(r"the run took [\d.]+ s, .* peak memory [\d.]+ GiB", text)
    answer = text.split("answer ─")[1].split("─ agents")[0].strip("─ \n")
    assert len(answer) > 3
    assert b'"sglang": "0.5.17"' in report.read_bytes()
    assert launched.left() == []


def test_interrupted_while_starting(tmp_path: Path) -> None:
    launched = Launched(["--hetero", "2"], tmp_path)
    launched.wait_for("smollm2-a-prefill on CPU, port", 300)
    launched.wait_for("ready after", 300)
    assert launched.end(signal.SIGINT) == 0
    assert "nothing is left running" in launched.text()
    assert launched.left() == []


def test_a_server_that_cannot_start_is_named_with_its_log(tmp_path: Path) -> None:
    config = tmp_path / "broken.yaml"
    config.write_text(
        "models: [{name: broken, path: 'builtin:smollm2'}]\n"
        "context_length: 512\nserver_args: [--no-such-flag]\nmax_total_tokens: 1024\n"
    )
    launched = Launched(["--config", str(config)], tmp_path)
    assert launched.popen.wait(600) == 1
    assert "broken-prefill ended with exit code" in launched.text()
    assert "--no-such-flag" in launched.text()
    assert launched.left() == []
