"""`python -m sglang_ext TARGET` prints what an entry of the list needs."""

import pytest

from sglang_ext.__main__ import print_fingerprints
from sglang_ext.patches import PATCHES

pytestmark = pytest.mark.servers  # imports as much of SGLang as a server


def test_a_fingerprint_is_printed_as_an_entry_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    patch = PATCHES[0]
    (version, expected), *_ = patch.expects.items()
    assert print_fingerprints([patch.target], version) == 0
    assert capsys.readouterr().out == f'{patch.target}  expects={{"{version}": "{expected}"}}\n'


def test_a_target_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_fingerprints(["sglang.version.nothing"], "0.5.17") == 1
    assert "sglang.version.nothing" in capsys.readouterr().err
