"""The programs that servers are: by engine, the module to run and what tells that it is ready."""

from dataclasses import dataclass

from launch.config.engines import Engine


@dataclass(frozen=True)
class Program:
    """What `python -m` runs.

    Attributes:
        module: Its name.
        ready_path: What it answers with 200 once it can generate.
        has_overlay: Whether it loads the overlay.
    """

    module: str
    ready_path: str
    has_overlay: bool


PROGRAMS: dict[Engine, Program] = {
    "sglang": Program("sglang.launch_server", "/model_info", has_overlay=True),
    "vllm": Program("vllm.entrypoints.openai.api_server", "/health", has_overlay=False),
}
