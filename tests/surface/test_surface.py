"""The public surface stays: the files in `stored` are what users may rely on, one a part.

Where a change of it is wanted, write them anew and read the difference:

    SURFACE=write python -m pytest tests/surface
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from tests.router.support.aio import run
from tests.surface.served import served_surface
from tests.surface.static import static_surface

STORED = Path(__file__).with_name("stored")


def test_the_public_surface_is_the_stored_one(tmp_path: Path) -> None:
    served: dict[str, Any] = {}

    async def serve() -> None:
        served.update(await served_surface(tmp_path))

    run(serve)
    found = {file_name(part): json.loads(json.dumps(value)) for part, value in {**static_surface(), **served}.items()}
    if os.environ.get("SURFACE") == "write":
        for old in STORED.glob("*.json"):
            old.unlink()
        for name, value in found.items():
            (STORED / name).write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
    assert found.keys() == {path.name for path in STORED.glob("*.json")}
    for name, value in found.items():
        assert value == json.loads((STORED / name).read_text()), f"{name} is not what it was"


def file_name(part: str) -> str:
    """`answer of /runs/{id}` as `answer-of-runs-id.json`."""
    return "-".join(re.findall(r"\w+", part)) + ".json"
