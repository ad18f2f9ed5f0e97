"""The folder `kernels/` does not get in the way of Hugging Face's package of that name."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_imports_from_the_repository_root() -> None:
    program = (
        "import transformers.integrations.hub_kernels, qmetric, kernels\n"
        "print(qmetric.__file__)\nprint(kernels.__file__)\nassert hasattr(kernels, 'get_kernel')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours, theirs = map(Path, done.stdout.split())
    assert ours.is_relative_to(ROOT / "kernels" / "qmetric")
    assert "site-packages" in theirs.parts
