import json
from pathlib import Path

import pytest

from launch.experiment.benchmarks import BENCHMARKS, DataError, Question
from launch.experiment.benchmarks.bbh.extractor import find_line

BBH = BENCHMARKS["bbh"]
ABC = "Which is it?\nOptions:\n(A) the red one\n(B) the blue one\n(C) Monsters, Inc"


def ask(folder: Path, target: str, text: str = ABC, task: str = "hyperbaton") -> Question:
    path = folder / f"{task}.json"
    path.write_text(json.dumps({"canary": "a canary", "examples": [{"input": text, "target": target}]}))
    (question,) = BBH.load(path)
    return question


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("(B)", "The answer is: (B)"),
        ("(B)", "The answer is B."),
        ("(B)", "the answer is (B) the blue one."),
        ("(B)", r"So \boxed{(B)}"),
        ("(B)", r"**The answer is: \(\boxed{B}\)**"),
        ("(B)", "The answer is the blue one."),
        ("(B)", "The answer is (A). Wait.\nThe answer is: **(B)**"),
        ("Monsters, Inc", "The answer is: Monsters, Inc."),
        ("(C)", "The answer is: Monsters, Inc"),
        ("True", "The answer is: True."),
        ("False", "The answer is **false**"),
        ("no", "The answer is: No, it is not."),
        ("Yes", "Yes"),
        ("valid", "The answer is: deductively valid."),
        ("invalid", "The answer is: not deductively valid."),
        ("-35", "The answer is: -35"),
        ("-35", r"The answer is: $(-5) \cdot 7 = -35$"),
        ("8", "The answer is 8 instruments."),
        ("] ) }", "The answer is: ] ) }"),
        ("] ) }", "The answer is:\n`])}`"),
        ("> } ]", r"The answer is: \(> \} ]\)"),
        ("and ball cat", "The answer is: and ball cat"),
        ("first in the what", "The answer is: first, in, the, what."),
        ("it&t o'hare syndrome", "The answer is: it&t o\u2019hare syndrome"),
        ("ball cat", "The answer is: 1. ball 2. cat"),
    ],
)
def test_right(tmp_path: Path, target: str, text: str) -> None:
    assert BBH.score(ask(tmp_path, target), text)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("(B)", "The answer is: (A)"),
        ("(B)", "The answer is: (A) or (B)"),
        ("(B)", "The answer is: the green one"),
        ("(B)", "The answer is: b, a and c"),
        ("(B)", ""),
        ("True", "The answer is: not True"),
        ("Yes", "The answer is: yes and no"),
        ("valid", "The answer is: invalid"),
        ("invalid", "The answer is: valid or invalid"),
        ("-35", "The answer is: 35"),
        ("8", "The answer is: 8.5"),
        ("8", "The answer is: 18"),
        ("] ) }", "The answer is: ] }"),
        ("] ) }", "The answer is: ] ) } and that closes all"),
        ("and ball cat", "The answer is: ball and cat"),
        ("and ball cat", "The answer is: and ball"),
        ("yes", "<think>The answer is: yes"),
    ],
)
def test_wrong(tmp_path: Path, target: str, text: str) -> None:
    assert not BBH.score(ask(tmp_path, target), text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The answer is: a b c\nThat is all.", "a b c"),
        ("Answer: x", "x"),
        ("One line\nlast line", "last line"),
        (r"I get \boxed{7}, as asked.", "7"),
        ("The answer is:\n\nnothing", "nothing"),
        ("", None),
    ],
)
def test_extracted(text: str, found: str | None) -> None:
    assert find_line(text) == found


def test_a_folder_has_one_file_for_each_task(tmp_path: Path) -> None:
    folder = tmp_path / "bbh"
    folder.mkdir()
    for task in ("navigate", "word_sorting"):
        ask(folder, "Yes", "Go. Options:\n- Yes\n- No", task)
    questions = BBH.load(tmp_path)
    assert {each.id for each in questions} == {"bbh/navigate/1", "bbh/word_sorting/1"}
    assert {each.task for each in questions} == {"navigate", "word_sorting"}
    assert all(BBH.score(each, each.reference) for each in questions)


@pytest.mark.parametrize(
    ("task", "text", "form"),
    [
        ("hyperbaton", ABC, "the letter of the right option in parentheses"),
        ("navigate", "Go.\nOptions:\n- Yes\n- No", "one of the options as it is written"),
        ("word_sorting", "Sort: b a", "the sorted words"),
        ("a_new_task", "Guess.", "the answer alone"),
    ],
)
def test_the_prompt_says_the_form_of_the_answer(tmp_path: Path, task: str, text: str, form: str) -> None:
    prompt = ask(tmp_path, "x", text, task).prompt
    assert prompt.startswith(text)
    assert form in prompt


@pytest.mark.parametrize("content", ['{"canary": ""}', "[1]", "{", '{"examples": [{"input": "x"}]}'])
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "navigate.json"
    path.write_text(content)
    with pytest.raises(DataError):
        BBH.load(path)
