"""Empty: smg's fixtures import Anthropic's client, and no test that is run uses it."""
