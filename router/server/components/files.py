"""The files of settings that are followed when they change."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from router.early_exit import Judge
from router.endpoints.workers_file import WorkersFile, read_workers_file
from router.moa.tree_files import Trees, is_shipped, load_trees
from router.server.components.endpoints import EndpointComponents
from router.server.components.runs import RunComponents
from router.server.components.workers import WorkerComponents
from router.server.settings import RouterSettings
from router.server.watched_files import Signature, WatchedFile, WatchedFiles, signature


def signatures(settings: RouterSettings) -> Mapping[Path, Signature]:
    """The signatures of the files before they are read: what changes after that is noticed."""
    return {path: signature(path) for path in (settings.trees, settings.workers_file) if path is not None}


def build_files(
    settings: RouterSettings,
    before_reading: Mapping[Path, Signature],
    workers: WorkerComponents,
    runs: RunComponents,
    endpoints: EndpointComponents,
) -> WatchedFiles:
    """Build what follows the files of trees and of workers."""
    files = []
    if (path := settings.trees) is not None and not is_shipped(path):
        files.append(WatchedFile(path, before_reading[path], load_trees, partial(_take_trees_over, runs)))
    if (path := settings.workers_file) is not None:
        file = WorkersFile(endpoints.workers, workers.file_bodies)
        read = partial(read_workers_file, factory=workers.factory)
        files.append(WatchedFile(path, before_reading[path], read, file.take_over, file.settle))
    return WatchedFiles(files, settings.server.file_check_secs)


def _take_trees_over(runs: RunComponents, trees: Trees) -> str:
    """Let new runs be of these trees; returns what to log."""
    if trees.need_judge and isinstance(runs.judge, Judge):
        runs.judge.start_soon()
    runs.trees.take_over(trees)
    return f"new runs are of its trees: {', '.join(tree.name for tree in trees.trees)}"
