"""The body of a request for one of several samples: the client's, with `n` 1 and a seed of its own."""

from collections.abc import Collection, Mapping
from typing import Any

from router.http.body import Body
from router.request_checks.sampling_bounds import INT64


class SampleBody(Body):
    """A client's body with other values for some of its fields; its bytes are not copied before it is rendered.

    Args:
        body: The client's body.
        changes: The fields that differ.
    """

    def __init__(self, body: Body, changes: Mapping[str, Any]) -> None:
        super().__init__({**body.fields, **changes})
        self._body = body
        self._changes = changes

    def render(self, overrides: Mapping[str, Any], dropped: Collection[str] = ()) -> bytes:
        """As of `Body`."""
        kept = {name: value for name, value in self._changes.items() if name not in dropped}
        return self._body.render({**kept, **overrides}, dropped)


def sample_body(body: Body, path: str, sample: int) -> Body:
    """The body of sample number `sample`, from 0 on.

    The sample's number is added to a seed: else a server that samples by seed (`--enable-deterministic-inference`)
    would give the same answer n times. Sample 0 has the client's seed.
    """
    if path != "/generate":
        return SampleBody(body, {"n": 1, **_seed(body.fields, "seed", sample)})
    given = body.fields.get("sampling_params")
    each = [_native(params, sample) for params in given] if isinstance(given, list) else _native(given, sample)
    return SampleBody(body, {"sampling_params": each})


def _native(params: Any, sample: int) -> Any:
    return {**params, "n": 1, **_seed(params, "sampling_seed", sample)} if isinstance(params, dict) else params


def _seed(params: Mapping[str, Any], name: str, sample: int) -> dict[str, int]:
    """The seed of a sample under its name; nothing where none is given."""
    seed = params.get(name)
    if type(seed) is not int:
        return {}
    return {name: seed + sample if seed <= INT64 - sample else seed - sample}
