"""Open prompts: a prompt is prefilled, and its KV sent to the decode server, before its end is known.

README.md has the protocol for clients, the servers' guarantees and what each module does.
"""
