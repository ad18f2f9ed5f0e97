"""What discovery is told by its flags, where its credentials come from, and which pod is which worker."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes_asyncio.config import incluster_config

from router.__main__ import main
from router.cli.parser import parse
from router.service_discovery import credentials
from router.service_discovery.labels import common_selector, matches
from router.service_discovery.pods import PodChange, PodTracker, PodWorker, worker_of_pod
from router.service_discovery.settings import DiscoverySettings
from tests.router.service_discovery.cluster import (
    DECODE,
    PAIRS,
    PORT,
    PREFILL,
    Pod,
    discovery,
    kubeconfig,
    pod,
    selected,
)
from tests.router.support.aio import aio

# Flags


def test_a_full_command_line() -> None:
    assert parse(["--worker-urls", "h:1"]).discovery is None
    plain = parse(["--service-discovery", "--selector", "app=sglang team=x", "v="]).discovery
    assert plain == DiscoverySettings({"plain": {"app": "sglang", "team": "x", "v": ""}}, 80, None)
    more = ["--service-discovery-port", "30000", "--service-discovery-namespace", "prod"]
    pairs = parse(["--service-discovery", *PAIRS, *more]).discovery
    assert pairs == DiscoverySettings({"prefill": PREFILL, "decode": DECODE}, 30000, "prod")
    one = parse(["--service-discovery", "--pd-disaggregation", "--decode", "h:1", "--prefill-selector", "a=b"])
    assert (one.discovery, one.decode) == (DiscoverySettings({"prefill": {"a": "b"}}), ("h:1",))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--selector", "app"], "--selector: 'app' is no label; give KEY=VALUE."),
        (["--selector", "=x"], "--selector: '=x' is no label"),
        (["--selector", "a=b,c=d"], "--selector: 'a=b,c=d' is no label"),
        (["--selector", "a=b=c"], "--selector: 'a=b=c' is no label"),
        (["--selector", "a=b", "a=c"], "--selector: a can be only one of 'b' and 'c'."),
        ([], "--service-discovery needs --selector KEY=VALUE"),
        (["--selector"], "--service-discovery needs --selector KEY=VALUE"),
        (["--prefill-selector", "a=b"], "are for pairs; give --pd-disaggregation with them."),
        (["--pd-disaggregation"], "needs --prefill-selector or --decode-selector KEY=VALUE."),
        (["--pd-disaggregation", "--selector", "a=b"], "for pairs give --prefill-selector and --decode-selector."),
        (["--selector", "a=b", "--service-discovery-port", "0"], "--service-discovery-port 0 is out of bounds"),
        (["--selector", "a=b", "--service-discovery-namespace", "A/b"], "'A/b' is no namespace's name"),
    ],
)
def test_wrong_flags(arguments: list[str], words: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse(["--service-discovery", *arguments])
    assert left.value.code == 2
    *_, last = capfd.readouterr().err.splitlines()
    assert words in last


def test_a_selector_alone(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--worker-urls", "h:1", "--selector", "a=b"])
    assert "--selector is for workers that are found; give --service-discovery with it." in capfd.readouterr().err


# Credentials


def exit_of(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    """Start the router, which shall not start: its exit code and what it says."""
    monkeypatch.setattr(sys, "argv", ["router", "--service-discovery", "--selector", "a=b", "--port", "0", *more])
    code = main()
    return code, capfd.readouterr().err


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes_asyncio", None)
    words = "router: --service-discovery needs the package kubernetes_asyncio; install faster-moa[kubernetes].\n"
    assert exit_of(monkeypatch, capfd) == (2, words)


def test_without_credentials(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, told = exit_of(monkeypatch, capfd)
    assert (code, told.count("\n")) == (2, 1)
    assert told.startswith("router: --service-discovery finds neither a pod's service account nor a kubeconfig; ")


@pytest.mark.parametrize("text", ["", "7", "[]", "{", "\x00", "{contexts: 7, current-context: a}", "clusters: []"])
def test_a_kubeconfig_that_is_none(
    text: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(path))
    code, told = exit_of(monkeypatch, capfd)
    assert (code, told.count("\n")) == (2, 1)
    assert told.startswith(f"router: the kubeconfig {path} cannot be used (")


def test_the_pod_s_account_comes_before_a_kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in (("TOKEN", "secret"), ("CERT", "a certificate")):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(incluster_config, f"SERVICE_{name}_FILENAME", str(tmp_path / name))

    @aio
    async def test() -> None:
        with kubeconfig("http://other:1"):
            assert (await credentials.load()).host == "http://other:1"
            os.environ.update(KUBERNETES_SERVICE_HOST="10.0.0.1", KUBERNETES_SERVICE_PORT="443")
            credentials.check()
            found = await credentials.load()
            assert (found.host, found.api_key["BearerToken"]) == ("https://10.0.0.1:443", "Bearer secret")

    test()


# Which pod is which worker


@pytest.mark.parametrize(
    ("several", "told"),
    [
        ([{"app": "a", "b/c": "d"}], "app=a,b/c=d"),
        ([PREFILL, DECODE], "app=sglang,side in (decode,prefill)"),
        ([PREFILL, {}], "app=sglang,side=prefill"),
        ([{"a": "b"}, {"c": "d"}], ""),
    ],
)
def test_what_the_api_is_asked_for(several: list[dict[str, str]], told: str) -> None:
    assert common_selector(several) == told


BOTH = discovery(*PAIRS, "--service-discovery-port", "30000")


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (pod("a", "10.0.0.1", labels=PREFILL), PodWorker("http://10.0.0.1:30000", "prefill")),
        (pod("a", "10.0.0.1", labels={**DECODE, "more": "x"}), PodWorker("http://10.0.0.1:30000", "decode")),
        (pod("a", "fd00::1", labels=DECODE), PodWorker("http://[fd00::1]:30000", "decode")),
        (pod("a", "10.0.0.1", labels=PREFILL, annotations=PORT), PodWorker("http://10.0.0.1:30000", "prefill", 8998)),
        (pod("a", "10.0.0.1", labels=DECODE, annotations=PORT), PodWorker("http://10.0.0.1:30000", "decode")),
        (
            pod("a", "10.0.0.1", labels=PREFILL, annotations={"sglang.ai/bootstrap-port": "0"}),
            PodWorker("http://10.0.0.1:30000", "prefill"),
        ),
        (
            pod("a", "10.0.0.1", labels=PREFILL, annotations=PORT | {"sglang.ai/scheme": "https"}),
            PodWorker("https://10.0.0.1:30000", "prefill", 8998),
        ),
        (
            pod("a", "10.0.0.1", labels=DECODE, annotations={"sglang.ai/scheme": "http"}),
            PodWorker("http://10.0.0.1:30000", "decode"),
        ),
        (pod("a", "10.0.0.1", labels={"app": "sglang"}), None),
        (pod("a", "10.0.0.1", labels={"app": "sglang", "side": "router"}), None),
        (pod("a", None, labels=DECODE), None),
        (pod("a", "10.0.0.1", labels=DECODE, ready=False), None),
        (pod("a", "10.0.0.1", labels=DECODE, phase="Pending"), None),
        (pod("a", "10.0.0.1", labels=DECODE, phase="Succeeded"), None),
        (pod("a", "10.0.0.1", labels=DECODE, leaving=True), None),
        ({"metadata": {"name": "a", "uid": "u", "labels": DECODE}}, None),
        ({"metadata": {"name": "a", "uid": "u"}, "status": {"phase": "Running", "podIP": "10.0.0.1"}}, None),
    ],
)
def test_a_pod_s_worker(told: Pod, found: PodWorker | None) -> None:
    assert worker_of_pod(told, BOTH) == found


def test_a_pod_with_the_labels_of_several_roles_has_the_first() -> None:
    settings = discovery("--pd-disaggregation", "--prefill-selector", "app=a", "--decode-selector", "app=a", "b=c")
    found = worker_of_pod(pod("a", labels={"app": "a", "b": "c"}), settings)
    assert found is not None
    assert found.role == "prefill"


def test_a_wrong_bootstrap_port_is_told(caplog: pytest.LogCaptureFixture) -> None:
    worker_of_pod(pod("a", labels=PREFILL, annotations={"sglang.ai/bootstrap-port": "x"}), BOTH)
    assert "the pod a has sglang.ai/bootstrap-port='x', which is no port; its server is asked" in caplog.text


def test_a_pod_of_an_unknown_scheme_is_no_worker(caplog: pytest.LogCaptureFixture) -> None:
    """Taken for http, prompts would go in the clear to a server that its owner meant to be asked with TLS."""
    assert worker_of_pod(pod("a", labels=DECODE, annotations={"sglang.ai/scheme": "tls"}), BOTH) is None
    assert "the pod a has sglang.ai/scheme='tls', which is neither http nor https; it is no worker" in caplog.text


@st.composite
def pods(draw: st.DrawFn) -> Pod:
    """One of few pods, in any state that matters."""
    uid = draw(st.sampled_from("abcd"))
    return pod(
        f"pod-{draw(st.sampled_from('xy'))}",
        draw(st.sampled_from([None, "10.0.0.1", "10.0.0.2"])),
        uid=uid,
        labels=draw(st.sampled_from([PREFILL, DECODE, {"app": "other"}])),
        annotations=draw(st.sampled_from([None, PORT, {"sglang.ai/bootstrap-port": "?"}])),
        ready=draw(st.booleans()),
        phase=draw(st.sampled_from(["Running", "Running", "Failed"])),
        leaving=draw(st.sampled_from([False, False, True])),
    )


EVENTS = st.one_of(
    st.tuples(st.just("seen"), pods()),
    st.tuples(st.just("gone"), pods()),
    st.tuples(st.just("all"), st.lists(pods(), max_size=4, unique_by=lambda each: each["metadata"]["uid"])),
)


@given(st.lists(EVENTS, max_size=12))
def test_any_history_ends_with_the_workers_of_its_last_state(events: list[tuple[str, Any]]) -> None:
    """And each change begins where the one before ended, so that nobody comes twice or goes twice."""
    tracked, state, workers = PodTracker(BOTH), dict[str, Pod](), dict[str, PodWorker]()
    for kind, told in events:
        changes: list[PodChange | None]
        if kind == "all":
            state = {each["metadata"]["uid"]: each for each in told}
            changes = [*tracked.replace_all(told)]
        elif kind == "seen":
            state[told["metadata"]["uid"]] = told
            changes = [tracked.update(told)]
        else:
            state.pop(told["metadata"]["uid"], None)
            changes = [tracked.delete(told)]
        for change in changes:
            if change is not None:
                assert workers.get(change.uid) == change.before != change.after
                workers.pop(change.uid, None)
                if change.after is not None:
                    workers[change.uid] = change.after
        implied = {uid: worker_of_pod(each, BOTH) for uid, each in state.items()}
        assert workers == {uid: found for uid, found in implied.items() if found is not None}


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1), pods())
def test_the_api_is_asked_for_all_that_match(several: list[dict[str, str]], told: Pod) -> None:
    labels = told["metadata"]["labels"] = {"a": "x", "b": "y", "c": "z"}
    if any(matches(each, labels) for each in several):
        assert selected(told, {"labelSelector": common_selector(several)}, None)
