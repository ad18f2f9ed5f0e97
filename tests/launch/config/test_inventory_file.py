"""Inventory files: machines that need not exist."""

from pathlib import Path

import pytest

from launch.config.inventory_file import read_inventory
from launch.errors import ConfigError
from launch.machine.gpus import Gpu
from launch.machine.inventory import Inventory
from launch.machine.units import GIB


def test_a_fabricated_machine(tmp_path: Path) -> None:
    file = tmp_path / "machine.json"
    file.write_text('{"gpus": [{"total_gib": 80}, {"total_gib": 80, "free_gib": 7.5}], "memory_gib": 128}')
    assert read_inventory(file) == Inventory(
        (Gpu(0, "GPU", 80 * GIB, 80 * GIB), Gpu(1, "GPU", 80 * GIB, int(7.5 * GIB))), 16, 128 * GIB, 128 * GIB
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "this is not JSON"),
        ("[]", "the file must be a mapping"),
        ("{}", "the key memory_gib is missing"),
        ('{"memory_gib": 1, "gpu": []}', "the key gpu is unknown, did you mean gpus"),
        ('{"memory_gib": 1, "gpus": [{"total": 3}]}', "the key gpus.0.total is unknown, did you mean total_gib"),
        ('{"memory_gib": "much"}', "the key memory_gib must be a number"),
        ('{"memory_gib": 0}', "the key memory_gib must be more than 0"),
        ('{"memory_gib": 1, "memory_free_gib": 2}', "the key memory_free_gib is 2.0, more than the total"),
        ('{"memory_gib": 1, "gpus": [{"total_gib": 1, "free_gib": 2}]}', "the key gpus.0.free_gib is 2.0"),
        ('{"memory_gib": 1, "gpus": [{"total_gib": 1}, {"index": 0, "total_gib": 1}]}', "the same index"),
    ],
)
def test_a_wrong_inventory_is_told_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "machine.json"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_inventory(file)
    assert message in str(refused.value)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_inventory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_inventory(tmp_path / "none.json")
