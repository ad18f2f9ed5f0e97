"""HTTP as the router speaks it to clients: requests, responses, bodies, server-sent events and ids."""
