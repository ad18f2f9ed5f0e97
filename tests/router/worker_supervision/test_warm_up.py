"""What a pair generates before clients come."""

from typing import Any

import pytest

from router.workers.health import HealthSettings
from tests.router.support.aio import run, until
from tests.router.support.fakes import FakePair
from tests.router.support.serving import serving


@pytest.mark.parametrize(("gpus", "times"), [([], 1), (["gpu-0"], 2)])
def test_kernels_are_compiled_before_clients_come(gpus: list[str], times: int) -> None:
    """Those of sampling everywhere; on a GPU, which tells itself, those for a cached beginning too."""

    async def test() -> None:
        pair = FakePair()
        pair.prefill.info = {**pair.prefill.info, "internal_states": [{"sglang_ext": {"gpus": gpus}}]}
        async with serving(pair, health=HealthSettings(probe_interval_secs=60)) as router:
            await until(lambda: router.supervisor.unready_reason() is None, "the pair is warm")
            bodies: list[dict[str, Any]] = [call.json for call in pair.prefill.requests]
            assert len(bodies) == times
            assert len({*map(str, (body["input_ids"] for body in bodies))}) == 1
            assert (len(bodies[0]["input_ids"]) > 64) is bool(gpus)
            assert all(body["sampling_params"]["temperature"] > 0 for body in bodies)

    run(test)
