"""Inference servers as the router sees them: state, health, circuit breakers, and the registry of all of them."""
