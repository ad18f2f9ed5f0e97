"""`python -m launch.models smollm2`: prepares a packaged model and prints its folder."""

import sys
from functools import partial

from launch.errors import LaunchError
from launch.models.packaged import prepare


def main() -> int:
    """Prepare the model that the command line names; return the exit code."""
    try:
        print(prepare(sys.argv[1] if len(sys.argv) > 1 else "smollm2", partial(print, file=sys.stderr)))
    except LaunchError as error:
        print(f"models: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
