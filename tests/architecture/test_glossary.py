"""The glossary of the README names what is there, and leaves out none of the project's own public words."""

import json
import re
from pathlib import Path
from typing import Any, get_args

from router.early_exit import ExitRule
from router.endpoints.hints import UNUSED_HEADER
from router.moa.tree import Arm
from router.observability.run_trace import AgentState
from router.parity.markdown import flags_only_here
from router.parity.peers import PEERS, load_peer
from router.speculative_prefill.composition import AnswerOrder
from router.workers.worker import Capability
from tests.architecture.imports import ROOT

SURFACE: dict[str, Any] = {
    path.stem: json.loads(path.read_text()) for path in (ROOT / "tests" / "surface" / "stored").glob("*.json")
}
HEADERS = {UNUSED_HEADER.decode()}  # of answers, by this router's own names
# Words of agents' states that need no explanation.
PLAIN_STATES = {"waiting", "running", "done", "failed"}


def glossary() -> dict[str, set[str]]:
    """Each word of the README's glossary, with the public names that carry it."""
    text = (ROOT / "README.md").read_text().split("## Glossary")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (?!word|---)(.+?) \| .+ \| ?(.*?) ?\|$", text, re.MULTILINE)
    return {word: set(re.findall(r"`([^`]+)`", names)) for word, names in rows}


def words_of(value: Any) -> set[str]:
    """Every key and every text of a part of the surface."""
    if isinstance(value, dict):
        return {str(key) for key in value} | {word for each in value.values() for word in words_of(each)}
    if isinstance(value, list):
        return {word for each in value for word in words_of(each)}
    return {value} if isinstance(value, str) else set()


def test_the_glossary_names_what_is_there() -> None:
    states = {*get_args(AgentState), *get_args(Capability)}
    named = set().union(*glossary().values())
    assert named
    assert named - words_of(SURFACE) - states - HEADERS - {"open_prompts"} == set()


def test_the_projects_own_words_are_explained() -> None:
    named = set().union(*glossary().values())
    rules = get_args(ExitRule.__annotations__["rule"])
    own = {*get_args(Arm), *get_args(AnswerOrder), *get_args(Capability), *rules}
    own |= set(get_args(AgentState)) - PLAIN_STATES
    own |= HEADERS | set(flags_only_here({name: load_peer(name) for name in PEERS}))
    own |= {name for name in SURFACE["metrics"] if name.startswith("moa_")}
    assert own - named == set()


def test_a_word_stands_once() -> None:
    text = Path(ROOT / "README.md").read_text()
    assert len(glossary()) == len(re.findall(r"^\| .* \|$", text.split("## Glossary")[1], re.MULTILINE)) - 1
