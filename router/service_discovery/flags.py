"""Command-line flags of service discovery, with sglang-router's names, and their checks."""

import argparse
import re
from dataclasses import dataclass

from router.config.flags import flag, read_flags
from router.service_discovery.labels import Labels, parse_labels
from router.service_discovery.settings import DiscoverySettings
from router.workers.worker import Role

SELECTOR_FLAGS: dict[str, Role] = {
    "--prefill-selector": "prefill",
    "--decode-selector": "decode",
    "--selector": "plain",
}
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class DiscoveryFlags:
    """The flags as parsed."""

    service_discovery: bool = flag("--service-discovery", default=False, help_text="find workers by watching pods")
    selector: tuple[str, ...] = flag(
        "--selector", default=(), multiple=True, metavar="KEY=VALUE", help_text="labels of pods that are plain servers"
    )
    prefill_selector: tuple[str, ...] = flag(
        "--prefill-selector",
        default=(),
        multiple=True,
        metavar="KEY=VALUE",
        help_text="labels of prefill servers' pods",
    )
    decode_selector: tuple[str, ...] = flag(
        "--decode-selector", default=(), multiple=True, metavar="KEY=VALUE", help_text="labels of decode servers' pods"
    )
    pod_port: int = flag(
        "--service-discovery-port", default=80, minimum=1, maximum=65535, help_text="port of the worker on each pod"
    )
    namespace: str | None = flag("--service-discovery-namespace", default=None, help_text="the pods' namespace; all")


def discovery_settings(parser: argparse.ArgumentParser, args: argparse.Namespace) -> DiscoverySettings | None:
    """The settings, or None without `--service-discovery`; calls `parser.error`, which exits, on invalid flags."""
    flags = read_flags(parser, args, DiscoveryFlags)
    texts = dict(zip(SELECTOR_FLAGS, (flags.prefill_selector, flags.decode_selector, flags.selector), strict=True))
    selectors: dict[Role, Labels] = {}
    for name, role in SELECTOR_FLAGS.items():
        try:
            labels = parse_labels(texts[name])
        except ValueError as error:
            parser.error(f"{name}: {error}")
        if labels:
            selectors[role] = labels
            if not flags.service_discovery:
                parser.error(f"{name} is for workers that are found; give --service-discovery with it.")
    if not flags.service_discovery:
        return None
    if args.pd_disaggregation:
        if "plain" in selectors:
            parser.error("--selector is for plain servers; for pairs give --prefill-selector and --decode-selector.")
        if not selectors:
            parser.error("--service-discovery of pairs needs --prefill-selector or --decode-selector KEY=VALUE.")
    else:
        if selectors.keys() - {"plain"}:
            parser.error("--prefill-selector and --decode-selector are for pairs; give --pd-disaggregation with them.")
        if not selectors:
            parser.error("--service-discovery needs --selector KEY=VALUE, or pods of any kind would be workers.")
    if flags.namespace is not None and not _NAMESPACE.fullmatch(flags.namespace):
        parser.error(f"--service-discovery-namespace {flags.namespace!r} is no namespace's name; leave it out for all.")
    return DiscoverySettings(selectors, flags.pod_port, flags.namespace)
