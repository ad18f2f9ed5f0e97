"""`python -m router.bench.abuse`: what an ordinary client notices while another one abuses the router.

Each kind of abuse goes on for some seconds, from a process of its own; meanwhile ordinary clients stream short answers
of another model. Reported are the ordinary clients' latency without and with it, and the router's memory before and
after.
"""
