"""The benchmarks by their names. A new one is a folder with a `BENCHMARK`, and its line here."""

import re

from launch.experiment.benchmarks import (
    aime25,
    bbh,
    gpqa_diamond,
    gsm8k,
    hmmt25,
    humaneval,
    humaneval_plus,
    ifbench,
    math500,
    mmlu,
    mmlu_prox_lite,
)
from launch.experiment.benchmarks.benchmark import Benchmark
from launch.experiment.benchmarks.errors import BenchmarkError

_FOLDERS = (
    gsm8k, math500, aime25, hmmt25, gpqa_diamond, mmlu, mmlu_prox_lite, ifbench, humaneval, humaneval_plus, bbh,
)  # fmt: skip
BENCHMARKS: dict[str, Benchmark] = {folder.BENCHMARK.name: folder.BENCHMARK for folder in _FOLDERS}


def benchmark(name: str) -> Benchmark:
    """The benchmark of a name, in any spelling of it: "MATH-500", "math500", "HumanEval+".

    Raises:
        BenchmarkError: There is none; the sentence has all names.
    """
    wanted = _folded(name)
    for each in BENCHMARKS.values():
        if wanted in (_folded(each.name), _folded(each.title)):
            return each
    raise BenchmarkError(f'There is no benchmark "{name}": it is one of {", ".join(BENCHMARKS)}.')


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.casefold().replace("+", "plus"))
