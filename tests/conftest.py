"""For all tests: which need servers, their order, which run in one process, and how many examples properties get."""

import gc
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

HERE = Path(__file__).parent
END_TO_END = HERE / "e2e"
# These start servers of their own, on ports that are free when they look: one after the other.
OWN_SERVERS = ("test_launch.py", "test_kills.py", "test_data_parallel.py")
# The longest of the others, which mostly wait: begun last, they would run alone.
LONG = (
    "test_supervisor.py", "test_install.py", "test_surface.py", "test_browser.py", "test_slow_clients.py",
    "test_restarts.py", "test_run_failures.py", "test_fuzz.py", "test_hung_servers.py", "test_refused_launches.py",
    "test_odd_values.py", "test_reference_cycles.py", "test_main.py", "test_router_bench.py", "test_interpreter.py",
)  # fmt: skip
# What starts processes of its own, such as routers and browsers, or takes seconds otherwise: not in `make test-quick`.
SLOW = (
    "launch/experiment/benchmarks/test_humaneval.py",
    "launch/experiment/benchmarks/test_humaneval_plus.py",
    "launch/experiment/benchmarks/test_sandbox.py",
    "launch/experiment/benchmarks/test_workers.py",
    "launch/machine/test_proxies.py",
    "launch/models/test_convert_gguf.py",
    "launch/models/test_hub.py",
    "launch/processes/test_mps.py",
    "launch/supervision/test_supervisor.py",
    "launch/test_refused_launches.py",
    "peers/test_runner.py",
    "qmetric/bench/test_bench.py",
    "qmetric/test_ops.py",
    "qmetric/triton_kernels/test_compiled.py",
    "qmetric/triton_kernels/test_correlation_compiled.py",
    "qmetric/triton_kernels/test_interpreter.py",
    "router/bench/test_failover.py",
    "router/bench/test_memory.py",
    "router/bench/test_router_bench.py",
    "router/bench/test_routing.py",
    "router/cli/test_main.py",
    "router/endpoints/test_fuzz.py",
    "router/endpoints/test_odd_values.py",
    "router/http_client/test_tls.py",
    "router/observability/test_tracing.py",
    "router/server/test_faults.py",
    "router/server/test_processes.py",
    "router/server/test_reference_cycles.py",
    "router/server/test_slow_clients.py",
    "router/server/test_tls.py",
    "router/timeline/test_browser.py",
    "sglang_ext/test_tokenizer_fingerprint.py",
    "sglang_ext/transfer/test_aborted_transfers.py",
    "surface/test_surface.py",
    "test_imports.py",
    "test_quick.py",
)
WATCHDOG = 1200  # seconds for an end-to-end test, with the start of its servers

# Several processes share the tests: none takes more than one core for PyTorch, nor do those they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No deadlines: a slow machine fails no test. `--hypothesis-profile` chooses another one.
settings.register_profile("full", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=10)
settings.register_profile("nightly", deadline=None, max_examples=1000)
settings.load_profile("full")


def pytest_configure(config: pytest.Config) -> None:
    """Of three processes the last one, which begins with what needs no servers, leaves these the cores they want."""
    if getattr(config, "workerinput", {}).get("workerid") == "gw2":
        os.nice(5)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the end-to-end tests and put them last.

    Several processes share the work module by module. There the longest come first: one process begins with the tests
    of the common servers, another one with those that start their own, and whoever is done takes of all others.
    """
    shares = hasattr(config, "workerinput")

    def rank(item: pytest.Item) -> int:
        if END_TO_END not in item.path.parents:
            return 2 if item.path.name in LONG else 3
        if not shares:
            return 4
        return 0 if _scope(item.nodeid) == COMMON else 1

    for item in items:
        if END_TO_END in item.path.parents:
            item.add_marker("servers")
            item.add_marker(pytest.mark.timeout(WATCHDOG))
        elif item.path.relative_to(HERE).as_posix() in SLOW:
            item.add_marker("slow")
    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """Make what was imported cheap.

    The garbage collector passes over it: some tests collect, and look, often. PyTorch's loggers, forty and more, hand
    their records on: pytest adds handlers to each logger that does not, and takes them away, three times a test.
    """
    gc.collect()
    gc.freeze()
    for name, logger in logging.root.manager.loggerDict.items():
        if name.split(".")[0] == "torch" and isinstance(logger, logging.Logger):
            logger.propagate = True


COMMON = "the common servers"
OWN = "servers of their own"


def _scope(nodeid: str) -> str:
    """What must run in one process: all tests of the common servers, else those of one module."""
    module = nodeid.split("::", maxsplit=1)[0]
    folder, _, name = module.rpartition("/")
    if "tests/sglang_ext" in folder:
        return "tests/sglang_ext"  # they import SGLang, for seconds
    if not folder.endswith("tests/e2e"):
        return module
    return OWN if name in OWN_SERVERS else COMMON


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Shares the work out by `_scope`, in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class ByServers(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid)

    config.option.loadscopereorder = False
    return ByServers(config, log)
