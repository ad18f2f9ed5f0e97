"""HTTP proxies in the environment: what must not go through them."""

from collections.abc import Collection, Mapping

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_EXCEPTIONS = ("no_proxy", "NO_PROXY")  # the names that programs read


def direct_connections(environment: Mapping[str, str], hosts: Collection[str] = ()) -> dict[str, str]:
    """Variables by which a process reaches loopback and `hosts` without a proxy; none where no proxy is set.

    Programs read the names of proxies in either case. Of the two names of the exceptions some read only one, and
    some prefer one, so both get everything that either of them had.
    """
    if not any(value and name.lower() in _PROXIES for name, value in environment.items()):
        return {}
    listed = [value for name, value in environment.items() if name.lower() == "no_proxy"]
    given = [entry.strip() for value in listed for entry in value.split(",")]
    if "*" in given:
        return dict.fromkeys(_EXCEPTIONS, "*")
    exceptions = ",".join(dict.fromkeys(entry for entry in (*given, *LOOPBACK_HOSTS, *hosts) if entry))
    return dict.fromkeys(_EXCEPTIONS, exceptions)
