"""TLS: the certificates that the router trusts and has, towards workers and towards clients."""
