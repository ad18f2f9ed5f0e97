"""`python -m router.bench.moa`: how long the router's event loop is blocked while many runs of trees are in flight.

The router runs in this process, with a probe on its loop; a fake pair in a second process, the clients in a third.
"""
