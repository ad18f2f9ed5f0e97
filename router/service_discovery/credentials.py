"""Credentials for the Kubernetes API: the service account of the router's pod, or a kubeconfig."""

import asyncio
import os
from pathlib import Path
from typing import Any

from router.errors import BadRequest

KUBECONFIG = "~/.kube/config"


def check() -> None:
    """Raise `BadRequest` if `kubernetes_asyncio` or all credentials are missing."""
    try:
        from kubernetes_asyncio import config
    except ImportError:
        raise BadRequest(
            "--service-discovery needs the package kubernetes_asyncio; install faster-moa[kubernetes]."
        ) from None
    if _in_cluster_config() is not None:
        return
    paths = _kubeconfig_paths()
    if paths is None:
        raise BadRequest(
            "--service-discovery finds neither a pod's service account nor a kubeconfig; "
            "run the router in a pod, or set KUBECONFIG to a file."
        )
    try:
        config.list_kube_config_contexts(paths)
    except Exception as error:  # the library may raise anything for an invalid file
        raise BadRequest(f"the kubeconfig {paths} cannot be used ({' '.join(str(error).split())}).") from None


async def load() -> Any:
    """Load the client configuration with the current credentials, which may have been renewed.

    Raises:
        Exception: Whatever the library raises if it cannot load them.
    """
    from kubernetes_asyncio import client, config
    from kubernetes_asyncio.config.kube_config import KubeConfigMerger

    configuration = await asyncio.to_thread(_in_cluster_config)
    if configuration is None:
        configuration = client.Configuration()
        merged = await asyncio.to_thread(KubeConfigMerger, _kubeconfig_paths() or KUBECONFIG)
        await config.load_kube_config_from_dict(merged.config, client_configuration=configuration)
    return configuration


def _in_cluster_config() -> Any:
    """The client configuration for the pod's service account; None outside a cluster."""
    from kubernetes_asyncio import client, config

    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except (config.ConfigException, OSError):
        return None
    return configuration


def _kubeconfig_paths() -> str | None:
    """The paths of kubeconfig files, separated as in KUBECONFIG; None if no file exists."""
    paths = os.environ.get("KUBECONFIG") or KUBECONFIG
    return paths if any(Path(path).expanduser().is_file() for path in paths.split(os.pathsep) if path) else None
