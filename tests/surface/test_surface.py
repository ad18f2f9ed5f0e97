"""The public surface stays: `surface.json` is what users may rely on.

Where a change of it is wanted, write it anew and read the difference:

    SURFACE=write python -m pytest tests/surface
"""

import json
import os
from pathlib import Path
from typing import Any

from tests.router.support.aio import run
from tests.surface.served import served_surface
from tests.surface.static import static_surface

STORED = Path(__file__).with_name("surface.json")


def test_the_public_surface_is_the_stored_one(tmp_path: Path) -> None:
    served: dict[str, Any] = {}

    async def serve() -> None:
        served.update(await served_surface(tmp_path))

    run(serve)
    found: dict[str, Any] = json.loads(json.dumps({**static_surface(), **served}))
    if os.environ.get("SURFACE") == "write":
        STORED.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    stored = json.loads(STORED.read_text())
    assert found.keys() == stored.keys()
    for part, told in stored.items():
        assert found[part] == told, f"{part} is not what it was"
