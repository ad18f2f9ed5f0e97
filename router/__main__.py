"""`python -m router`: parse the command line and serve."""

import sys

from router.cli.parser import parse
from router.server.start import start


def main() -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""
    return start(parse(sys.argv[1:]))


if __name__ == "__main__":
    raise SystemExit(main())
