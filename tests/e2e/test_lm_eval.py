"""lm-evaluation-harness, unchanged: against a tree, and a task of multiple choice against a pair and a plain server."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.servers import MODEL, Servers

HERE = Path(__file__).parent / "lm_eval"
QUESTIONS = 8
CHOICES = 4  # of each question of the second task
OF_TREE = {"local-completions": "/v1/completions", "local-chat-completions": "/v1/chat/completions"}


@dataclass(frozen=True)
class Run:
    """One run of the harness: what it wrote is in `folder`."""

    kind: str
    task: str
    url: str
    options: str
    folder: Path

    def arguments(self) -> list[str]:
        """Its command line."""
        data = _data(self.task, self.folder)
        task = (HERE / f"{self.task}.yaml").read_text().replace("DATA_FILE", str(data))
        (self.folder / f"{self.task}.yaml").write_text(task)
        options = f"base_url={self.url},num_concurrent=4,max_retries=1,{self.options}"
        command = ["--model", self.kind, "--model_args", options]
        command += ["--include_path", str(self.folder), "--tasks", self.task, "--output_path", str(self.folder / "out")]
        return [*command, "--log_samples", *(["--apply_chat_template"] if "chat" in self.kind else [])]

    def results(self) -> dict[str, Any]:
        """What it found."""
        (results,) = (self.folder / "out").rglob("results_*.json")
        told: dict[str, Any] = json.loads(results.read_text())
        assert told["n-samples"][self.task] == {"original": QUESTIONS, "effective": QUESTIONS}
        measured: dict[str, Any] = told["results"][self.task]
        return measured

    def responses(self) -> list[Any]:
        """What it got for each question."""
        (samples,) = (self.folder / "out").rglob("samples_*.jsonl")
        lines = sorted(map(json.loads, samples.read_text().splitlines()), key=lambda line: line["doc_id"])
        return [line["resps"] for line in lines]


def _data(task: str, folder: Path) -> Path:
    """The file with a task's questions; each wrong choice is the answer of one of the next questions."""
    capitals = HERE / "capitals.jsonl"
    if task == "capitals":
        (folder / "capitals.jsonl").write_text("\n".join(capitals.read_text().splitlines()[:QUESTIONS]))
        return folder / "capitals.jsonl"
    asked = [json.loads(line) for line in capitals.read_text().splitlines()[:QUESTIONS]]
    answers = [each["answer"] for each in asked]
    for at, each in enumerate(asked):
        each["choices"] = sorted((answers + answers)[at : at + CHOICES])
    (folder / "choices.jsonl").write_text("\n".join(map(json.dumps, asked)))
    return folder / "choices.jsonl"


@pytest.fixture(scope="module")
def runs(servers: Servers, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """All runs, one after the other in one process, since importing is most of the time."""
    without_ids = "model=tiny,tokenized_requests=False,tokenizer_backend=None"
    with_ids = f"model={MODEL},tokenizer={model_folder},tokenizer_backend=huggingface"
    runs = {
        kind: Run(kind, "capitals", servers.router + path, without_ids, tmp_path_factory.mktemp(kind))
        for kind, path in OF_TREE.items()
    }
    for name, base in (("pair", servers.router), ("plain", servers.plain)):
        folder = tmp_path_factory.mktemp(name)
        runs[name] = Run("local-completions", "choices", f"{base}/v1/completions", with_ids, folder)
    cache = str(tmp_path_factory.mktemp("hf"))
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": cache, "OPENAI_API_KEY": "x"}
    process = subprocess.run(
        [sys.executable, str(HERE / "several.py"), json.dumps([run.arguments() for run in runs.values()])],
        env={**os.environ, **offline},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=900,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return runs


@pytest.mark.parametrize("kind", OF_TREE)
def test_every_question_has_an_answer(runs: dict[str, Run], kind: str) -> None:
    runs[kind].results()
    answers = [responses[0][0] for responses in runs[kind].responses()]
    assert len(answers) == QUESTIONS
    assert all(answers), "every question got words"


def test_a_task_of_multiple_choice_is_the_same_through_a_pair(runs: dict[str, Run]) -> None:
    pair, plain = runs["pair"], runs["plain"]
    for metric in ("acc,none", "acc_norm,none"):
        assert pair.results()[metric] == plain.results()[metric]
    assert plain.results()["acc,none"] > 1 / CHOICES, "better than guessing: log-likelihoods mean something"
    told = [_likelihood(choice) for question in plain.responses() for choice in question]
    assert len(set(told)) > QUESTIONS, "choices have log-likelihoods of their own"
    for of_pair, of_plain in zip(pair.responses(), plain.responses(), strict=True):
        assert [_greedy(choice) for choice in of_pair] == [_greedy(choice) for choice in of_plain]
        assert [_likelihood(choice) for choice in of_pair] == pytest.approx(
            [_likelihood(choice) for choice in of_plain], abs=1e-3
        )
        assert all(_likelihood(choice) < 0 for choice in of_pair)


def _likelihood(response: Any) -> float:
    """The log-likelihood of a choice; the harness logs it as a string."""
    return float(response[0][0])


def _greedy(response: Any) -> bool:
    """Whether the choice is what the model would write."""
    return str(response[0][1]) == "True"
