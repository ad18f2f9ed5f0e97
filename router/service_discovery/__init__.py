"""Service discovery: finds workers by watching Kubernetes pods (`--service-discovery`).

`pods` decides which pod is which worker, `pod_workers` adds and removes workers, `watcher` lists and watches pods
through `pod_api`. `kubernetes_asyncio` is imported only when discovery is used.
"""
