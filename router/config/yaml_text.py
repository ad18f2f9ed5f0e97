"""Reads YAML: files of trees, workers and API keys."""

import yaml

MAX_DEPTH = 100  # levels of lists and mappings; a right file of the router has a dozen at most


def load_yaml(text: str, max_depth: int = MAX_DEPTH) -> object:
    """The value of one YAML document, of plain types only.

    libyaml reads it where PyYAML has it, ten times as fast as Python: 10,000 keys would take half a minute.

    Raises:
        yaml.YAMLError: The text is no YAML.
        RecursionError: It is nested more than `max_depth` levels deep.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    for event in yaml.parse(text, loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > max_depth:  # at some 10,000 levels libyaml's loader would overflow the stack and end the process
            raise RecursionError(f"nested more than {max_depth} levels deep")
    return yaml.load(text, loader)  # noqa: S506 - both loaders are safe
