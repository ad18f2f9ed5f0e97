"""What load-balancing policies make of traces of requests, on modelled servers in virtual time."""
