from pathlib import Path

import pytest

from launch.experiment.benchmarks import BENCHMARKS, DataError
from launch.experiment.benchmarks.reading.mathematics import find_mathematics
from tests.launch.experiment.benchmarks.rows import only, write

MATH = BENCHMARKS["math500"]


def problem(gold: str) -> dict[str, object]:
    solution = rf"We find $\boxed{{{gold}}}.$"
    return {
        "problem": "Find it.",
        "solution": solution,
        "answer": gold,
        "subject": "Algebra",
        "unique_id": "test/1.json",
    }


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        (r"\left( 3, \frac{\pi}{2} \right)", r"\boxed{(3, \pi/2)}"),
        (r"\frac{14}{3}", r"\boxed{\dfrac{14}{3}}"),
        (r"\frac12", "The answer is $0.5$."),
        ("p - q", r"\boxed{-q + p}"),
        (r"x^2 - 1", r"\boxed{(x-1)(x+1)}"),
        ("6 - 5i", r"\boxed{-5i + 6}"),
        (r"\sqrt{50}", r"\boxed{5\sqrt{2}}"),
        (r"\text{Evelyn}", r"\boxed{Evelyn}"),
        (r"\text{(C)}", r"\boxed{C}"),
        (r"[-2,7]", r"\boxed{[-2, 7]}"),
        (r"11\sqrt2", r"$$\boxed{11\sqrt{2}}$$"),
        (r"10,\! 080", r"\boxed{10080}"),
        (r"3, 5, 7", r"\boxed{7, 3, 5}"),
        (r"\{1, 2\}", r"\boxed{\{2, 1\}}"),
        ("5", r"\boxed{x = 5}"),
        (r"90^\circ", r"\boxed{90}"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}"),
        ("2k+2", r"So the answer is \(2(k+1)\)."),
        (r"4210_{5}", r"\boxed{4210_5}"),
        ("-\\frac{1}{3}", r"\boxed{\frac{-1}{3}}"),
    ],
)
def test_right(tmp_path: Path, gold: str, text: str) -> None:
    assert MATH.score(only(MATH, tmp_path, problem(gold)), text)


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        (r"\frac{14}{3}", r"\boxed{\frac{3}{14}}"),
        ("(1,2)", r"\boxed{(2,1)}"),
        ("[1,2)", r"\boxed{[1,2]}"),
        ("p - q", r"\boxed{q - p}"),
        ("5", r"\boxed{5, 6}"),
        ("5", r"\boxed{\text{five or six}}"),
        ("5", "I do not know."),
        (r"\sqrt{2}", r"\boxed{1.4}"),
        (r"x^2", r"\boxed{x^3}"),
        (r"\text{Evelyn}", r"\boxed{Evelyn or Ann}"),
        ("5", r"\boxed{" + "(" * 5000),
        ("5", r"\boxed{\frac{1}{0}}"),
        ("5", r"\boxed{__import__('os').getcwd()}"),
    ],
)
def test_wrong(tmp_path: Path, gold: str, text: str) -> None:
    assert not MATH.score(only(MATH, tmp_path, problem(gold)), text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{1} and then \boxed{ \frac{1}{2} }.", r"\frac{1}{2}"),
        (r"\boxed{a \boxed{b}}", "b"),
        (r"The answer is $x + 1$.", "x + 1"),
        (r"The answer is \(x + 1\).", "x + 1"),
        ("So it is 7.", "7"),
        ("Nothing here.", None),
        (r"\boxed{}", None),
    ],
)
def test_extracted(text: str, found: str | None) -> None:
    assert find_mathematics(text) == found


def test_loaded(tmp_path: Path) -> None:
    question = only(MATH, tmp_path, problem("5"))
    assert (question.id, question.task, question.gold) == ("math500/test/1.json", "Algebra", "5")
    assert MATH.score(question, question.reference)


@pytest.mark.parametrize("missing", ["problem", "answer"])
def test_a_row_of_another_form_is_refused(tmp_path: Path, missing: str) -> None:
    row = problem("5")
    del row[missing]
    with pytest.raises(DataError, match=f'has no text under "{missing}"'):
        MATH.load(write(tmp_path, row))
    with pytest.raises(DataError, match=r"has two rows with the id math500/test/1.json"):
        MATH.load(write(tmp_path, problem("5"), problem("6")))
