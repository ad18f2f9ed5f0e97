"""`python -m launch.pd`: prefill/decode pairs or plain servers, the router over them, and a tree of agents.

    python -m launch.pd --hetero 3                      three models, a pair each, until Ctrl-C
    python -m launch.pd --hetero 3 --ask "Why ...?"     one run of the tree, then stop
    python -m launch.pd --hetero 3 --dry-run            print the plan and start nothing

Exit codes: 0 done, 1 a server died, 2 wrong input or an impossible plan, 130 interrupted.
"""

import asyncio
import sys
from contextlib import suppress

from rich.console import Console

from launch.cli.build import build_config, build_plan
from launch.cli.options import parse_arguments
from launch.cli.session import EXIT_INTERRUPTED, LaunchSession
from launch.config.inventory_file import read_inventory
from launch.errors import LaunchError
from launch.machine.inventory import Inventory
from launch.planning.dry_run import render
from router.errors import RouterError

EXIT_REFUSED = 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments, __doc__)
    console = Console(soft_wrap=True)
    try:
        inventory = Inventory.detect() if options.inventory is None else read_inventory(options.inventory)
        config = build_config(options, inventory)
        plan = build_plan(options, config, inventory, console)
        if options.dry_run:
            sys.stdout.write(render(plan, inventory))
            return 0
        session = LaunchSession(options, config, plan, console)
    except (LaunchError, RouterError) as error:
        print(f"launch: {error}", file=sys.stderr)
        return EXIT_REFUSED
    with suppress(KeyboardInterrupt):
        return asyncio.run(session.run())
    return EXIT_INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
