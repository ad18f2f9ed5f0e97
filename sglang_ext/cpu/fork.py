"""Forked servers: one process imports SGLang, all servers share its memory pages."""

import multiprocessing
import os
from typing import Any

START_METHOD = "SGLANG_EXT_START_METHOD"


def keep_start_method(result: Any, *args: Any, **kwargs: Any) -> None:
    """AFTER `_set_envs_and_config`, which forces "spawn": a forked server forks its processes too."""
    method = os.environ.get(START_METHOD)
    if method:
        multiprocessing.set_start_method(method, force=True)
