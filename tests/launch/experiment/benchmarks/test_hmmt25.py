from pathlib import Path

import pytest

from launch.experiment.benchmarks import BENCHMARKS, DataError
from tests.launch.experiment.benchmarks.rows import only, write

HMMT = BENCHMARKS["hmmt25"]


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        (r"\frac{1}{576}", r"\boxed{1/576}"),
        (r"\frac{1}{576}", r"\boxed{\frac{1}{24^2}}"),
        ("-984", r"\boxed{-984}"),
        (r"2^{25} \cdot 26!", r"\boxed{26! \cdot 2^{25}}"),
        (r"\frac{8}{\sqrt{10}}", r"\boxed{\frac{4\sqrt{10}}{5}}"),
        (r"\sqrt{23}-2 \sqrt{3}", r"\boxed{-2\sqrt3+\sqrt{23}}"),
        (r"\frac{9 \sqrt{23}}{23}", r"\boxed{\frac{9}{\sqrt{23}}}"),
        (r"1-\frac{2}{\pi}", r"\boxed{\frac{\pi-2}{\pi}}"),
        ("9 \\sqrt{15}", r"The answer is \(9\sqrt{15}\)."),
        ("103", r"\[ \boxed{103} \]"),
        (r"\frac{-1+\sqrt{17}}{2}", r"\boxed{\frac{\sqrt{17}-1}{2}}"),
        (r"\frac{-1+\sqrt{17}}{2}, \frac{-1-\sqrt{17}}{2}", r"\boxed{\frac{-1-\sqrt{17}}{2}, \frac{-1+\sqrt{17}}{2}}"),
    ],
)
def test_right(tmp_path: Path, gold: str, text: str) -> None:
    assert HMMT.score(only(HMMT, tmp_path, {"problem": "Compute it.", "answer": gold}), text)


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        (r"\frac{1}{576}", r"\boxed{576}"),
        (r"\frac{1}{576}", r"\boxed{0.0017}"),
        ("-984", r"\boxed{984}"),
        (r"2^{25} \cdot 26!", r"\boxed{2^{26} \cdot 25!}"),
        (r"\frac{-1+\sqrt{17}}{2}, \frac{-1-\sqrt{17}}{2}", r"\boxed{\frac{-1+\sqrt{17}}{2}}"),
        (r"\sqrt{6}", r"\boxed{\pm\sqrt{6}}"),
        ("103", r"\boxed{\text{103 or 104}}"),
        ("103", "No closed form was found."),
    ],
)
def test_wrong(tmp_path: Path, gold: str, text: str) -> None:
    assert not HMMT.score(only(HMMT, tmp_path, {"problem": "Compute it.", "answer": gold}), text)


@pytest.mark.parametrize(
    "row",
    [
        {"problem": "Compute it."},
        {"answer": "1"},
        {"problem": "", "answer": "1"},
        {"problem": "Compute it.", "answer": []},
    ],
)
def test_a_row_of_another_form_is_refused(tmp_path: Path, row: dict[str, object]) -> None:
    with pytest.raises(DataError, match="this is not HMMT February 2025's jsonl"):
        HMMT.load(write(tmp_path, row))
