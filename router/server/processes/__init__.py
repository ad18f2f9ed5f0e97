"""The processes of one router: one by itself, or several on one port (`--workers N`).

Each of several has a listening socket on the port, among which the kernel spreads connections, and knows all
workers; what one of them learned of a worker - health, breaker, load, cached prompts - the others learn by
themselves. What must be in one place is passed on over private sockets: the requests and pages of a run go to
the process that its name belongs to, workers come and go in all of them, and `/metrics`, `/workers`, `/runs`
and `/readiness` tell of all of them.
"""
