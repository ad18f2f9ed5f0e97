"""Workers that are found by watching Kubernetes pods (`--service-discovery`).

`pods` says which pod is which worker, `roster` lets workers come and go accordingly, `watcher` keeps both at it
through `api`. Nothing here imports kubernetes_asyncio before it is needed.
"""
