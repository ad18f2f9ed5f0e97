"""Write the page of a saved trace, and its Chrome trace."""

import argparse
import sys
from pathlib import Path
from typing import Any

import orjson

from router.errors import BadRequest
from router.timeline import chrome_trace, page


def parse(arguments: list[str]) -> argparse.Namespace:
    """Command-line arguments; argparse leaves with code 2 on a wrong one."""
    parser = argparse.ArgumentParser(prog="python -m router.timeline", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN.json", help="a trace, as GET /runs/{id} answers it")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default: beside the trace, as .html)")
    parser.add_argument("--chrome", type=Path, metavar="FILE", help="the Chrome trace, for ui.perfetto.dev")
    return parser.parse_args(arguments)


def load(path: Path) -> dict[str, Any]:
    """Read a saved trace; raises `BadRequest` when the file cannot be read or is no JSON object."""
    try:
        value = orjson.loads(path.read_bytes())
    except OSError as error:
        raise BadRequest(f"the trace {path} cannot be read ({error.strerror}).") from None
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the trace {path} is no JSON ({error}).") from None
    if not isinstance(value, dict):
        raise BadRequest(f"the trace {path} is no JSON object.")
    return value


def main(arguments: list[str]) -> int:
    """The exit code: 0, or 1 with one sentence on stderr."""
    given = parse(arguments)
    try:
        run = load(given.run)
        (given.out or given.run.with_suffix(".html")).write_text(page(run), encoding="utf-8")
        if given.chrome is not None:
            given.chrome.write_bytes(orjson.dumps(chrome_trace(run)))
    except BadRequest as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename} cannot be written ({error.strerror}).", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
