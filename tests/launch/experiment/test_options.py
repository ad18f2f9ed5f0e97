"""The command line's options."""

import pytest

from launch.experiment.options import parse_arguments


@pytest.mark.parametrize("option", ["--num-samples", "--question-batch-size"])
@pytest.mark.parametrize("number", ["0", "-1", "ten", "1.5", "", "\u0663"])
def test_a_wrong_number_is_told_in_words(option: str, number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse_arguments(["--config", "x", "--out", "y", f"{option}={number}"], None)
    assert left.value.code == 2
    assert f"argument {option}: needs a whole number of 1 or more, not {number!r}" in capsys.readouterr().err


def test_each_batch_size_may_have_its_own_number_of_questions(capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--config", "x", "--out", "y", "--question-batch-size"]
    assert parse_arguments([*base, "1", "8", "--num-samples", "10", "64"], None).num_samples == {1: 10, 8: 64}
    assert parse_arguments([*base, "1", "8", "--num-samples", "10"], None).num_samples == {1: 10, 8: 10}
    assert parse_arguments([*base, "1", "8"], None).num_samples == {1: None, 8: None}
    for wrong in (["1", "8", "9", "--num-samples", "10", "64"], ["1", "1"]):
        with pytest.raises(SystemExit):
            parse_arguments([*base, *wrong], None)
        assert "--num-samples one, or as many as these" in capsys.readouterr().err


def test_a_config_needs_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--config", "x"], None)
    assert "--config needs --out DIR" in capsys.readouterr().err
