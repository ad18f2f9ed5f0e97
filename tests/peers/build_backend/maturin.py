"""Stands in for maturin while pip downloads an sdist: says the metadata that is in the sdist, and builds nothing."""

import email
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn


def get_requires_for_build_wheel(config_settings: Mapping[str, str] | None = None) -> list[str]:
    """Nothing is needed."""
    return []


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Mapping[str, str] | None = None) -> str:
    """Copy PKG-INFO to where pip looks for a wheel's metadata; the folder's name."""
    told = Path("PKG-INFO").read_text()
    fields = email.message_from_string(told)
    folder = Path(metadata_directory, f"{fields['Name'].replace('-', '_')}-{fields['Version']}.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text(told)
    (folder / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: none\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    return folder.name


def build_wheel(*_: object) -> NoReturn:
    """Refuse: their router is not wanted."""
    raise SystemExit("only downloads are served here.")
