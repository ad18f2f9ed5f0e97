"""The process of IFBench's verifiers: which it has, and whether a response follows instructions.

NLTK's downloads are off: what its verifiers need and is not there is said instead.
"""

import sys
from types import ModuleType
from typing import Any

import nltk

from launch.experiment.benchmarks.workers.worker import serve

nltk.download = lambda *_, **__: False  # the verifiers would download when they are imported
# The package loads data sets, too, which takes seconds to import and is not used.
setattr(sys.modules.setdefault("datasets", ModuleType("datasets")), "load_dataset", None)  # noqa: B010

from if_verifiable.common import evaluate_instructions  # noqa: E402
from if_verifiable.ifbench.instructions_registry import INSTRUCTION_DICT  # noqa: E402

_PLACES = {
    "punkt_tab": "tokenizers/punkt_tab",
    "stopwords": "corpora/stopwords",
    "averaged_perceptron_tagger_eng": "taggers/averaged_perceptron_tagger_eng",
}
_NEEDS = {
    "ratio:stop_words": ["stopwords"],
    "words:start_verb": ["punkt_tab", "averaged_perceptron_tagger_eng"],
    "words:keywords_specific_position": ["punkt_tab"],
    "words:words_position": ["punkt_tab"],
    "format:title_case": ["punkt_tab"],
}


def answer(request: dict[str, Any]) -> Any:
    """What verifiers there are and what they lack, or whether a response follows every instruction (loose)."""
    if request["what"] == "kinds":
        return {"known": sorted(INSTRUCTION_DICT), "missing": missing()}
    _, scores = evaluate_instructions(
        request["response"], request["instructions"], request["arguments"], request["prompt"], INSTRUCTION_DICT
    )
    return scores.binary_loose == 1.0


def missing() -> dict[str, list[str]]:
    """By instruction: the data of NLTK that is not there, by the names of its downloader."""
    absent = {name for name, place in _PLACES.items() if not _is_there(place)}
    return {kind: lacks for kind, names in _NEEDS.items() if (lacks := [each for each in names if each in absent])}


def _is_there(place: str) -> bool:
    try:
        nltk.data.find(place)
    except LookupError:
        return False
    return True


if __name__ == "__main__":
    serve(answer)
