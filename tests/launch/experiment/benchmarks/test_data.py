import gzip
import json
from pathlib import Path
from types import ModuleType

import pytest

from launch.experiment.benchmarks import BENCHMARKS, BenchmarkError, DataError, MissingPackage, benchmark
from launch.experiment.benchmarks.data import Row, sample
from launch.experiment.benchmarks.data.rows import read_file
from tests.launch.experiment.benchmarks.rows import write

GSM8K = BENCHMARKS["gsm8k"]
ROWS = [{"question": f"How many are {n}?", "answer": f"#### {n}"} for n in range(40)]


def read(path: Path) -> list[Row]:
    return list(read_file(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"x": 1}\r\n\r\n{"x": 2}'),
        ("a.jsonl", '\ufeff{"x": 1}\n{"x": 2}\n'),
        ("a.JSON", '[{"x": 1}, {"x": 2}]'),
        ("a.json", '{"canary": "", "examples": [{"x": 1}, {"x": 2}]}'),
        ("a.csv", "x\n1\n2\n"),
    ],
)
def test_the_forms_of_files(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    (tmp_path / f"b{name}.gz").write_bytes(gzip.compress(content.encode()))
    for path in (tmp_path / name, tmp_path / f"b{name}.gz"):
        assert [int(each.values["x"]) for each in read(path)] == [1, 2]
        assert [each.file for each in read(path)] == [path.name.split(".")[0]] * 2


def test_a_line_is_not_cut_at_separators_inside_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"x": "one\u2028two\x85"}, ensure_ascii=False) + "\n")
    assert [each.values["x"] for each in read(path)] == ["one\u2028two\x85"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", b'{"x": 1}\n{"x": ', "Line 2 of .* is not JSON"),
        ("a.jsonl", b"[1]\n", "Line 1 of .* is no object"),
        ("a.json", b"{}", "neither a list of rows nor"),
        ("a.json", b"[1]", "Row 1 of a is no object"),
        ("a.jsonl", b"\xff\xfe", "cannot be read"),
        ("a.jsonl.gz", b"no gzip", "cannot be read"),
        ("a.parquet", b"no parquet", "is not Parquet"),
        ("a.xlsx", b"", r"is none of .jsonl, .json, .csv, .parquet"),
    ],
)
def test_a_wrong_file_is_said_in_a_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        (None, r"GSM8K is not on this machine: give GSM8K's test.jsonl, .* or \"hub\" to download openai/gsm8k"),
        ("nowhere.jsonl", "nowhere.jsonl does not exist: give GSM8K's test.jsonl"),
        (".", r"The folder \. has none of gsm8k"),
    ],
)
def test_a_missing_data_set_says_which_file_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str | None, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=sentence):
        GSM8K.load(place)


def test_an_empty_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="The data set of GSM8K has no rows"):
        GSM8K.load(write(tmp_path))


def test_a_folder_has_the_file_under_one_of_its_names(tmp_path: Path) -> None:
    write(tmp_path, *ROWS, name="test.jsonl")
    assert len(GSM8K.load(tmp_path)) == 40
    write(tmp_path, ROWS[0], name="gsm8k.jsonl")
    assert len(GSM8K.load(tmp_path)) == 1, "its own name comes first"


def test_the_hub_is_asked_only_when_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(name: str, config: str | None, split: str) -> list[dict[str, str]]:
        asked.append((name, config, split))
        if name == "no/where":
            raise ConnectionError("Couldn't reach the hub\nand more")
        return ROWS[:2]

    module = ModuleType("datasets")
    monkeypatch.setattr(module, "load_dataset", load_dataset, raising=False)
    monkeypatch.setitem(__import__("sys").modules, "datasets", module)
    assert len(GSM8K.load("hub")) == 2
    assert len(GSM8K.load("hub:my/copy:small")) == 2
    with pytest.raises(DataError, match=r"no/where could not be loaded from the hub \(Couldn't reach the hub\): give"):
        GSM8K.load("hub:no/where")
    assert asked == [("openai/gsm8k", "main", "test"), ("my/copy", "small", "test"), ("no/where", None, "test")]
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingPackage, match="install datasets"):
        GSM8K.load("hub")


def test_a_larger_sample_begins_with_the_smaller_one(tmp_path: Path) -> None:
    path = write(tmp_path, *ROWS)
    whole = GSM8K.load(path, seed=3)
    assert GSM8K.load(path, limit=7, seed=3) == whole[:7]
    assert GSM8K.load(path, limit=100, seed=3) == whole
    assert sorted(each.id for each in whole) == sorted(f"gsm8k/{n}" for n in range(1, 41))
    assert [each.id for each in whole] != [each.id for each in GSM8K.load(path, seed=4)]
    assert sample([], 3, 0) == []
    with pytest.raises(BenchmarkError, match="A sample of 0 questions"):
        GSM8K.load(path, limit=0)


@pytest.mark.parametrize(
    ("name", "found"),
    [("MATH-500", "math500"), ("humaneval+", "humaneval_plus"), ("GPQA Diamond", "gpqa_diamond"), ("bbh", "bbh")],
)
def test_a_benchmark_by_its_name(name: str, found: str) -> None:
    assert benchmark(name).name == found


def test_an_unknown_name_is_told_the_others() -> None:
    with pytest.raises(BenchmarkError, match=r'There is no benchmark "gsm9k": it is one of gsm8k, math500, .*bbh'):
        benchmark("gsm9k")
