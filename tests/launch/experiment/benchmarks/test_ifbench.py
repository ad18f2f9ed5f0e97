from pathlib import Path
from typing import Any

import pytest

from launch.experiment.benchmarks import BENCHMARKS, DataError, MissingPackage, Question, Unscorable
from launch.experiment.benchmarks.ifbench import scorer
from tests.launch.experiment.benchmarks.rows import only, write

IFBENCH = BENCHMARKS["ifbench"]
NOTHING = {"N": None, "keyword": None, "sep": None}


def row(*instructions: tuple[str, dict[str, object]], key: str = "0") -> dict[str, Any]:
    return {
        "key": key,
        "prompt": "Say something.",
        "instruction_id_list": [kind for kind, _ in instructions],
        "kwargs": [{**NOTHING, **arguments} for _, arguments in instructions],
    }


RANGE: tuple[str, dict[str, object]] = ("count:word_count_range", {"min_words": 3, "max_words": 5})
KEYWORDS: tuple[str, dict[str, object]] = (
    "count:keywords_multiple",
    dict(zip(("keyword1", "keyword2", "keyword3", "keyword4", "keyword5"), "vwxyz", strict=True)),
)


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        (RANGE, "One two three four."),
        (RANGE, "Sure, here is my answer to that request:\nOne two three four."),
        (RANGE, "One two three four.\nI hope that this is what you wanted to have from me."),
        (RANGE, "<think>One two three four five six seven.</think>One two three four."),
        (("count:numbers", {"N": 2}), "There are 3 of 7."),
        (("format:list", {"sep": "..."}), "... one\n... two"),
        (("format:no_whitespace", {}), "Nothing,but,commas."),
        (("words:vowel", {}), "a cat ran"),
        (("format:options", {"options": "yes/no/maybe"}), "maybe"),
        (("words:palindrome", {}), "level radar civic rotor kayak madam refer stats tenet rotator"),
        (("custom:multiples", {}), " ".join(str(each) for each in range(14, 51, 7))),
        (("count:punctuation", {}), "a. b, c! d? e; f: g?!"),
    ],
)
def test_followed(tmp_path: Path, instruction: tuple[str, dict[str, object]], text: str) -> None:
    assert IFBENCH.score(only(IFBENCH, tmp_path, row(instruction)), text)


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        (RANGE, "One two."),
        (RANGE, ""),
        (RANGE, "<think>One two three four."),
        (RANGE, "One two three four five six seven."),
        (("count:numbers", {"N": 2}), "There are 3."),
        (("format:no_whitespace", {}), "There is a space."),
        (("format:options", {"options": "yes/no/maybe"}), "perhaps"),
        (("custom:multiples", {}), "14 21 28"),
        (KEYWORDS, "v w w x x x"),
    ],
)
def test_not_followed(tmp_path: Path, instruction: tuple[str, dict[str, object]], text: str) -> None:
    assert not IFBENCH.score(only(IFBENCH, tmp_path, row(instruction)), text)


def test_every_instruction_counts(tmp_path: Path) -> None:
    question = only(IFBENCH, tmp_path, row(RANGE, ("count:numbers", {"N": 1})))
    assert IFBENCH.score(question, "One two 3 four.")
    assert not IFBENCH.score(question, "One two three four.")


def test_the_prompt_is_asked_as_it_is(tmp_path: Path) -> None:
    question = only(IFBENCH, tmp_path, row(RANGE, key="12"))
    assert (question.id, question.prompt, question.gold) == ("ifbench/12", "Say something.", "")
    assert IFBENCH.extract(" All of it.\n") == "All of it."


def test_an_instruction_without_a_verifier_is_refused_and_never_scored(tmp_path: Path) -> None:
    path = write(tmp_path, row(RANGE), row(RANGE, ("count:unicorns", {}), key="1"))
    reading = IFBENCH.read(path)
    assert [each.id for each in reading.questions] == ["ifbench/0"]
    (refused,) = reading.refused
    assert refused.refusal == "The installed if-verifiable has no verifier for count:unicorns."
    with pytest.raises(Unscorable, match="count:unicorns"):
        IFBENCH.score(refused, "One two three four.")
    with pytest.raises(DataError, match=r"No question of IFBench can be scored here. .*count:unicorns"):
        IFBENCH.load(write(tmp_path, row(("count:unicorns", {}))))


def test_what_is_left_out_of_a_load_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, row(RANGE), row(("count:unicorns", {}), key="1"))
    assert len(IFBENCH.load(path)) == 1
    assert (
        "IFBench: 1 questions are left out. The installed if-verifiable has no verifier for count:unicorns."
        in caplog.text
    )


def test_a_verifier_without_its_data_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"known": ["format:title_case", "words:vowel"], "missing": {"format:title_case": ["punkt_tab"]}}
    monkeypatch.setattr(scorer, "_asked", lambda: answer)
    scorer._known.cache_clear()
    scorer._missing.cache_clear()
    try:
        assert scorer.refusal(["words:vowel"]) == ""
        assert scorer.refusal(["words:vowel", "format:title_case"]) == (
            "The verifier of format:title_case needs data of NLTK: python -m nltk.downloader punkt_tab."
        )
    finally:
        scorer._known.cache_clear()
        scorer._missing.cache_clear()


def test_without_the_library_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingPackage, match=r"IFBench is scored with if-verifiable.*pip install if-verifiable"):
        IFBENCH.load(write(tmp_path, row(RANGE)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"instruction_id_list": []},
        {"instruction_id_list": "count:numbers"},
        {"instruction_id_list": [7]},
        {"kwargs": []},
        {"kwargs": [None]},
        {"kwargs": None},
        {"prompt": " "},
    ],
)
def test_a_row_of_another_form_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(DataError, match="Row 1 of rows has no"):
        IFBENCH.load(write(tmp_path, {**row(RANGE), **wrong}))


def test_arguments_are_the_rows_own(tmp_path: Path) -> None:
    question: Question = only(IFBENCH, tmp_path, row(RANGE))
    assert question.detail["arguments"] == [{"min_words": 3, "max_words": 5}], "without those that are null"
