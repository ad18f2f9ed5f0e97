"""The router's HTTP endpoints: the route table, and a handler for each path."""
