"""The process of math-verify: whether two answers are equal. SymPy need not come to an end on what a model wrote."""

from typing import Any

from math_verify import parse, verify

from launch.experiment.benchmarks.workers.worker import serve

_LIMIT_S = 60  # on the clock; the CPU time that a request may take is less, but others may have the CPU


def same(request: dict[str, Any]) -> bool:
    """Whether the answer equals the right one."""
    gold, answer = (
        parse(f"\\boxed{{{request[each]}}}", parsing_timeout=_LIMIT_S, raise_on_error=False)
        for each in ("gold", "answer")
    )
    return bool(gold and answer and verify(gold, answer, timeout_seconds=_LIMIT_S, raise_on_error=False))


if __name__ == "__main__":
    serve(same)
