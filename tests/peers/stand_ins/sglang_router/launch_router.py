"""`python -m sglang_router.launch_router ARGUMENTS` becomes `python -m router ARGUMENTS`, in the same process."""

import os
import sys


def main() -> None:
    """Become the router, with the arguments as they are."""
    python, path = os.environ["PEERS_ROUTER_PYTHON"], os.environ["PEERS_ROUTER_PATH"]
    os.execve(python, [python, "-m", "router", *sys.argv[1:]], {**os.environ, "PYTHONPATH": path})


if __name__ == "__main__":
    main()
