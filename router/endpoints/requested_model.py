"""The model that a request names."""

from typing import Any

from router.errors import BadRequest, NoWorker
from router.workers.registry import Registry


def requested_model(registry: Registry, body: dict[str, Any]) -> str:
    """The model that a body means: the one it names, or the only one served, or SGLang's `default` if none is known.

    Raises:
        BadRequest: `model` is not a string, or is missing and several models are served.
        NoWorker: `model` is missing and no model is served.
    """
    name = body.get("model")
    if name is not None and not isinstance(name, str):
        raise BadRequest("`model` must be a string.")
    # "default" is SGLang's own name for whatever the server has.
    model = registry.default_model() if name in (None, "default") else registry.meant_by(name)
    if model is None:
        served = registry.models()
        if not served:
            if registry.serves_any():
                return "default"
            raise NoWorker("no model has both a healthy prefill and a healthy decode server yet.", retry_after=1.0)
        raise BadRequest(f"several models are served here; name one in `model`: {', '.join(served)}.")
    return model
