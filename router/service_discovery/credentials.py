"""How to speak to the Kubernetes API: as the pod that the router runs in, or as a kubeconfig says."""

import asyncio
import os
from pathlib import Path
from typing import Any

from router.errors import BadRequest

KUBECONFIG = "~/.kube/config"


def check() -> None:
    """Look whether discovery can begin; raises `BadRequest` when the library or any credentials are missing."""
    try:
        from kubernetes_asyncio import config
    except ImportError:
        raise BadRequest(
            "--service-discovery needs the package kubernetes_asyncio; install faster-moa[kubernetes]."
        ) from None
    if _of_the_pod() is not None:
        return
    paths = _kubeconfig()
    if paths is None:
        raise BadRequest(
            "--service-discovery finds neither a pod's service account nor a kubeconfig; "
            "run the router in a pod, or set KUBECONFIG to a file."
        )
    try:
        config.list_kube_config_contexts(paths)
    except Exception as error:  # the library trusts the file: on one that is something else it fails in any way
        raise BadRequest(f"the kubeconfig {paths} cannot be used ({' '.join(str(error).split())}).") from None


async def load() -> Any:
    """The library's configuration with credentials as they are now: they may have been renewed.

    Raises:
        Exception: What the library raises for credentials that cannot be had.
    """
    from kubernetes_asyncio import client, config
    from kubernetes_asyncio.config.kube_config import KubeConfigMerger

    found = await asyncio.to_thread(_of_the_pod)
    if found is None:
        found = client.Configuration()
        merged = await asyncio.to_thread(KubeConfigMerger, _kubeconfig() or KUBECONFIG)
        await config.load_kube_config_from_dict(merged.config, client_configuration=found)
    return found


def _of_the_pod() -> Any:
    """The configuration of the pod's service account; None outside a cluster."""
    from kubernetes_asyncio import client, config

    found = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=found)
    except (config.ConfigException, OSError):
        return None
    return found


def _kubeconfig() -> str | None:
    """The paths of kubeconfig files, as KUBECONFIG has them; None when there is no file."""
    paths = os.environ.get("KUBECONFIG") or KUBECONFIG
    return paths if any(Path(path).expanduser().is_file() for path in paths.split(os.pathsep) if path) else None
