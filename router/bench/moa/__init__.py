"""How long the router's event loop is held while many runs are under way.

`python -m router.bench.moa --runs 50`: the router in this process with a probe on its loop, a fake pair that answers
at once in a second process, the clients in a third.
"""
