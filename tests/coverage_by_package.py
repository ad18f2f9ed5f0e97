"""`python -m tests.coverage_by_package`: how much of each package the last measured run executed.

With `--handlers FILE` it also writes the error-handling lines (of `except` blocks, and `raise`) that nothing ran.
Reads `.coverage`, which `make test` writes.
"""

import argparse
import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from coverage import Coverage

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Print the table, and write the list where one is asked for."""
    parser = argparse.ArgumentParser(description="Coverage by package.")
    parser.add_argument("--handlers", type=Path, help="where to write error-handling lines that nothing ran")
    given = parser.parse_args()
    coverage = Coverage(data_file=str(ROOT / ".coverage"), config_file=str(ROOT / "pyproject.toml"))
    coverage.load()
    lines: dict[str, int] = defaultdict(int)
    missed: dict[str, int] = defaultdict(int)
    handlers: list[str] = []
    for measured in sorted(name for name in coverage.get_data().measured_files() if name.endswith(".py")):
        path = Path(measured)
        _, executable, _, missing, _ = coverage.analysis2(measured)
        for package in (package_of(path), "total"):
            lines[package] += len(executable)
            missed[package] += len(missing)
        handlers += unrun(path, set(missing))
    print("coverage of lines by package, of this process and its threads alone:")
    for package in [*sorted(lines.keys() - {"total"}), "total"]:
        share = 100.0 * (1 - missed[package] / max(1, lines[package]))
        print(f"  {package:<32} {lines[package]:>6} lines {share:>6.1f} %")
    if given.handlers is not None:
        given.handlers.write_text("".join(f"{line}\n" for line in handlers))


def package_of(path: Path) -> str:
    """The folder of a file, at most two deep, with dots."""
    return ".".join(path.relative_to(ROOT).parent.parts[:2])


def unrun(path: Path, missing: set[int]) -> Iterator[str]:
    """Lines `path:number: code` of what handles errors and was never run."""
    source = path.read_text()
    code = source.splitlines()
    numbers: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise):
            numbers.add(node.lineno)
        elif isinstance(node, ast.ExceptHandler):
            numbers.update((node.lineno, node.body[0].lineno))
    for number in sorted(numbers & missing):
        yield f"{path.relative_to(ROOT)}:{number}: {code[number - 1].strip()}"


if __name__ == "__main__":
    main()
