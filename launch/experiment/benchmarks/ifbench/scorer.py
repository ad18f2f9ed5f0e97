"""The score of IFBench: every instruction of a question is followed, by the verifiers of its authors in if-verifiable.

Loose, as the authors report it: also without the first or last line and without asterisks. Some verifiers need data of
NLTK that no package has; without it their questions are refused.
"""

from functools import cache

from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.errors import Unscorable
from launch.experiment.benchmarks.workers import INSTRUCTIONS


def find_response(text: str) -> str | None:
    """The whole text: its form is what is asked."""
    return text.strip() or None


def refusal(kinds: list[str]) -> str:
    """Why a question with these instructions cannot be scored here, in sentences; "" where it can."""
    missing = _missing()
    return " ".join(
        missing.get(kind, f"The installed if-verifiable has no verifier for {kind}.")
        for kind in kinds
        if kind in missing or kind not in _known()
    )


@cache
def _known() -> frozenset[str]:
    return frozenset(_asked()["known"])


@cache
def _missing() -> dict[str, str]:
    """By instruction: what its verifier lacks."""
    return {
        kind: f"The verifier of {kind} needs data of NLTK: python -m nltk.downloader {' '.join(names)}."
        for kind, names in _asked()["missing"].items()
    }


@cache
def _asked() -> dict[str, dict[str, list[str]]]:
    answer = INSTRUCTIONS.ask({"what": "kinds"})
    if answer is None:
        raise Unscorable("The verifiers of IFBench could not be loaded.")
    return dict(answer)


def follows(question: Question, text: str) -> bool:
    """Whether a text follows every instruction; not, where a verifier comes to no end on it."""
    asked = {"what": "score", "response": text, **question.detail}
    return INSTRUCTIONS.ask(asked) is True
