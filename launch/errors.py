"""What the launcher raises.

LaunchError        wrong input or an impossible plan: the command prints it and exits with code 2
├── ConfigError    a config, a model or an inventory file is wrong
├── PlanError      the servers do not fit the machine
└── ServerDied     a server process ended by itself: the command exits with code 1
"""


class LaunchError(Exception):
    """A wrong input; the message is one sentence that says what was wrong and what to do."""


class ConfigError(LaunchError):
    """A config, a model folder or an inventory file is wrong."""


class PlanError(LaunchError):
    """The servers do not fit the machine; the message carries the arithmetic."""


class ServerDied(LaunchError):
    """A server process ended by itself; the message names it and ends with the last lines of its log."""
