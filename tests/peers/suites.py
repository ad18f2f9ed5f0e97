"""The suites: which tests of a peer's folder are run, and what is adapted there."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tests.peers.download import NotFetched, fetch, sdists, unpack

ADAPTATIONS = Path(__file__).parent / "adaptations"
MOCK = Path("fixtures", "mock_worker.py")
# They want what speaks gRPC, or a cloud's key.
NO_GRPC = "not grpc and not multiple_workers and not openai and not anthropic and not zmq"


@dataclass(frozen=True)
class Suite:
    """Tests of a peer.

    Attributes:
        name: As the table has it.
        folder: A copy of theirs, which may be changed.
        tests: Files and folders in it.
        chosen: Which of their tests, as pytest's `-k`.
        environment: Variables that they read.
    """

    name: str
    folder: Path
    tests: tuple[str, ...]
    chosen: str = ""
    environment: dict[str, str] = field(default_factory=dict)


def downloaded_suites(cache: Path, work: Path) -> list[Suite]:
    """The suites in the peers' sdists.

    Raises:
        NotFetched: One cannot be had.
    """
    return [suite_in(unpack(fetch(sdist, cache), sdist, work), f"{sdist.name} {sdist.version}") for sdist in sdists()]


def copied_suite(folder: Path, work: Path) -> Suite:
    """The suite in a folder of the user's, such as a clone's `e2e_test`; raises `NotFetched` if there is none."""
    copy = work / folder.resolve().parent.name / folder.resolve().name
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__", ".git"))
    return suite_in(copy, str(folder))


def suite_in(folder: Path, name: str) -> Suite:
    """What is run of a folder with a peer's tests: all with the mock, or those of the workers' and operators' API."""
    if (folder / "integration_mock").is_dir():
        return Suite(f"{name} {folder.name}", folder, ("integration_mock",))
    files = [f"router/{name}.py" for name in ("test_worker_api", "test_admin_ops")]
    present = tuple(name for name in files if (folder / name).is_file())
    if not present:
        raise NotFetched(f"{folder} has neither integration_mock nor router/test_worker_api.py.")
    # Their pool would start a server of each kind that it reads in the files.
    return Suite(f"{name} {folder.name}", folder, present, NO_GRPC, {"E2E_BACKENDS": "http"})


def adapt(suite: Suite) -> None:
    """Put the adapted mock in front of theirs, where the suite has one."""
    mock = suite.folder / MOCK
    if mock.exists():
        mock.rename(mock.with_name(f"unchanged_{mock.name}"))
        shutil.copy(ADAPTATIONS / mock.name, mock)
