"""The options of `python -m launch.experiment`."""

import argparse
from pathlib import Path


def parse_arguments(arguments: list[str], description: str | None) -> argparse.Namespace:
    """The command line's options; argparse exits with code 2 when they are wrong.

    `num_samples` is a mapping: by questions at once how many are asked, None for all.
    """
    parser = argparse.ArgumentParser(
        prog="python -m launch.experiment",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", type=Path, metavar="FILE", help="the arms: a YAML or JSON file, or a shipped name")
    what.add_argument(
        "--report", type=Path, nargs="+", metavar="DIR", help="write summary, table and pictures again; runs nothing"
    )
    what.add_argument("--list", action="store_true", help="list the benchmarks")
    parser.add_argument(
        "--benchmark", nargs="+", default=["sums"], metavar="NAME", help="what is asked (default: sums)"
    )
    parser.add_argument(
        "--data", metavar="PLACE", help="where the benchmark's data is: a file, a folder (default: its own place)"
    )
    parser.add_argument(
        "--num-samples",
        type=_positive,
        nargs="+",
        metavar="N",
        help="questions of each, or a number for each --question-batch-size (default: all)",
    )
    parser.add_argument(
        "--question-batch-size",
        type=_positive,
        nargs="+",
        default=[1],
        metavar="C",
        help="questions at once (default: 1)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of order, choice and draws (default: 0)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for the log and the results; goes on where it stopped")
    parser.add_argument("--lengths", metavar="NAME", help="in place of the config's lengths, to sweep over several")
    parser.add_argument("--router", metavar="URL", help="a running router (default: starts servers and one)")
    parser.add_argument("--no-pictures", action="store_true", help="summary and table only; needs no matplotlib")
    options = parser.parse_args(arguments)
    if options.config is not None and options.out is None:
        parser.error("--config needs --out DIR")
    sizes, samples = options.question_batch_size, options.num_samples or [None]
    if len(samples) not in (1, len(sizes)) or len(set(sizes)) < len(sizes):
        parser.error("--question-batch-size needs different numbers, and --num-samples one, or as many as these")
    options.num_samples = dict(zip(sizes, samples * len(sizes) if len(samples) == 1 else samples, strict=True))
    return options


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"needs a whole number of 1 or more, not {text!r}")
    return int(text)
