"""What documents and docstrings name is there: files by their paths, modules and what is in them by dotted names."""

import importlib.util
import re
from pathlib import Path

import pytest

from tests.architecture.imports import FOLDERS, ROOT, folder_of

DOTTED = re.compile(r"\b(?:router|launch|sglang_ext|qmetric)(?:\.[a-z_]\w*)+")
PATH = re.compile(r"(?<![\w./-])(?:[\w-]+/)*[\w-]+\.(?:py|yaml|json|md|j2)\b(?!\.)")
# Names of files that users or servers have, or that a text only takes for an example.
EXAMPLES = {
    "my.yaml",
    "keys.yaml",
    "cpu.yaml",
    "trees.yaml",
    "trees.json",
    "conn.py",
    "config.json",
    "generation_config.json",
}
EXAMPLES |= {"experiment.json", "summary.json", "curve.json"}
EXAMPLES |= {"tokenizer_config.json", "plan.json", "report.json", "p.json", "trace.json"}
EXAMPLES |= {"distributed/bootstrap.py", "mem_cache/kv_cache_configurator.py"}  # SGLang's
DOCUMENTS = [path for path in (ROOT, *FOLDERS.values(), ROOT / "tests") for path in sorted(path.glob("*.md"))]
DOCUMENTS += [path for folder in FOLDERS.values() for path in sorted(folder.rglob("*/*.md"))]
BARE = {path.name for folder in (*FOLDERS.values(), ROOT / "tests") for path in folder.rglob("*.*")}
SOURCES = [path for folder in FOLDERS.values() for path in sorted(folder.rglob("*.py"))]


def docstrings(path: Path) -> str:
    """All texts in triple quotes of a file."""
    return "\n".join(re.findall(r'"""(.*?)"""', path.read_text(), re.DOTALL))


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or what the longest module in it has as a word."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        path = folder_of(".".join(parts[:length]))
        if path.is_dir() or path.with_suffix(".py").exists():
            source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            rest = parts[length : length + 1]
            return not rest or re.search(rf"\b{rest[0]}\b", source.read_text()) is not None
    return False


@pytest.mark.parametrize("path", [*DOCUMENTS, *SOURCES], ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_text_names_is_there(path: Path) -> None:
    text = path.read_text() if path.suffix == ".md" else docstrings(path)
    wrong = {name for name in DOTTED.findall(text) if not exists(name) and importlib.util.find_spec(name.split(".")[0])}
    near = (ROOT, path.parent, path.parent.parent, *FOLDERS.values(), ROOT / "kernels")
    for name in set(PATH.findall(text)) - EXAMPLES - BARE:
        placeholder = re.search(r"[A-Z]{3}", name) is not None and not name.endswith(".md")
        if not placeholder and not any((folder / name).exists() for folder in near):
            wrong.add(name)
    assert wrong == set()
