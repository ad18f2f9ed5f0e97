"""How the router's packages declare settings: flags as dataclass fields, and checked structures from YAML and JSON."""
