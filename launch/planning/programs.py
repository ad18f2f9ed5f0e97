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
        leaves_files: Whether it leaves sockets and files in the folder for temporary ones when it is killed.
    """

    module: str
    ready_path: str
    has_overlay: bool
    leaves_files: bool = False


PROGRAMS: dict[Engine, Program] = {
    "sglang": Program("sglang.launch_server", "/model_info", has_overlay=True),
    # The command `vllm serve`: the module of its server is deprecated as a command.
    "vllm": Program("vllm.entrypoints.cli.main", "/health", has_overlay=False, leaves_files=True),
}
