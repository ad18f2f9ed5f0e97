"""Forked servers: one process imports SGLang, and all servers share its memory pages."""

import multiprocessing
import os
from typing import Any

START_METHOD = "SGLANG_EXT_START_METHOD"


def restore_start_method(result: Any, *args: Any, **kwargs: Any) -> None:
    """AFTER `_set_envs_and_config`, which sets "spawn": go back to the method that the launcher chose."""
    method = os.environ.get(START_METHOD)
    if method:
        multiprocessing.set_start_method(method, force=True)
