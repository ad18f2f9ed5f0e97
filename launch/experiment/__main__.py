"""`python -m launch.experiment`: the arms of a config on the questions of benchmarks.

    python -m launch.experiment --config figure-4-ii --benchmark gsm8k --num-samples 85 --out DIR
    python -m launch.experiment --config FILE --out DIR --router http://127.0.0.1:30000
    python -m launch.experiment --report DIR        table, summary and pictures again; of several a curve over lengths

It may be stopped or killed at any moment: the same command goes on where it stopped. A router with an API key is asked
with the one in the variable OPENAI_API_KEY.

Exit codes: 0 done, 1 a server died or the router is gone, 2 wrong input or an impossible plan, 130 interrupted.
"""

import asyncio
import signal
import sys

from rich.console import Console

from launch.errors import LaunchError, ServerDied
from launch.experiment.options import parse_arguments
from launch.experiment.questions import benchmark_names
from launch.experiment.report import write_curve, write_report
from launch.experiment.session import ExperimentSession
from router.errors import RouterError

EXIT_DIED = 1
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments, __doc__)
    console = Console(soft_wrap=True)
    if options.list:
        for name in benchmark_names():
            console.print(name, highlight=False)
        return 0
    try:
        if options.report is not None:
            for folder in options.report:
                write_report(folder, console, pictures=not options.no_pictures)
            if len(options.report) > 1:
                write_curve(options.report, console, pictures=not options.no_pictures)
            return 0
        return asyncio.run(_until_stopped(ExperimentSession(options, console)))
    except (LaunchError, RouterError) as error:
        return _refuse(error)
    except ExceptionGroup as group:
        return _refuse(_first(group))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


async def _until_stopped(session: ExperimentSession) -> int:
    """Run a session; SIGINT and SIGTERM end it, and the servers that it started."""
    work = asyncio.create_task(session.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        return EXIT_INTERRUPTED
    return 0


def _refuse(error: LaunchError | RouterError) -> int:
    print(f"launch: {error}", file=sys.stderr)
    return EXIT_DIED if isinstance(error, ServerDied) else EXIT_REFUSED


def _first(group: ExceptionGroup[Exception]) -> LaunchError | RouterError:
    """The first error of a group; raises one that is neither a `LaunchError` nor a `RouterError`."""
    first: Exception = group
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, LaunchError | RouterError):
        return first
    raise first


if __name__ == "__main__":
    raise SystemExit(main())
