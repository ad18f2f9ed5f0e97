"""The experiment from its command line to its files, against a fake router over real HTTP."""

import argparse
import asyncio
import io
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from rich.console import Console

from launch.errors import ConfigError, ServerDied
from launch.experiment import runner
from launch.experiment.__main__ import main
from launch.experiment.arm_runs import WARM_UP_TOKENS, most_frequent
from launch.experiment.given_exits import UNKNOWN_RATE, ExitRates, recorded_exits
from launch.experiment.options import parse_arguments
from launch.experiment.run_line import RunLine
from launch.experiment.run_log import RUNS, SESSIONS, RunLog, read_runs, read_sessions
from launch.experiment.session import ExperimentSession
from tests.launch.experiment.support import ALONE, ARMS, TREE, FakeRouter, write_config
from tests.router.support.aio import aio

SCHEMA = json.loads((Path(runner.__file__).parent / "summary.schema.json").read_text())


def options(config: Path, out: Path, router: FakeRouter | None, *more: str) -> argparse.Namespace:
    at = [] if router is None else ["--router", router.url]
    return parse_arguments(["--config", str(config), "--out", str(out), *at, "--no-pictures", *more], None)


async def run(config: Path, out: Path, router: FakeRouter, *more: str) -> tuple[dict[str, Any], str]:
    """The summary and what was printed."""
    told = io.StringIO()
    await ExperimentSession(options(config, out, router, *more), Console(file=told, width=200)).run()
    summary = orjson.loads((out / "summary.json").read_bytes())
    jsonschema.validate(summary, SCHEMA)
    return summary, told.getvalue()


@aio
async def test_every_arm_answers_every_question_once_with_the_same_lengths(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    async with FakeRouter(config) as router:
        summary, told = await run(config, tmp_path / "out", router, "--num-samples", "6")
    lines = read_runs(tmp_path / "out")
    assert Counter(line.key for line in lines) == {("sums", 1, f"sums-{k}", arm): 1 for k in range(6) for arm in ARMS}
    # One question through all arms before the next, and their order changes.
    arms = [line.arm for line in lines]
    rounds = [tuple(arms[start : start + 4]) for start in range(0, 24, 4)]
    assert {frozenset(each) for each in rounds} == {frozenset(ARMS)}
    assert len(set(rounds)) > 1
    for k in range(6):
        assert len({json.dumps(line.lengths) for line in lines if line.index == k}) == 1
    (cell,) = summary["cells"]
    assert {name: arm["questions"] for name, arm in cell["arms"].items()} == dict.fromkeys(ARMS, 6)
    assert cell["arms"]["tree"]["lengths_missed"] == 0
    assert cell["reduction"]["questions"] == 6
    assert all(name in told for name in ARMS)


@aio
async def test_a_batch_runs_together_and_one_arm_at_a_time(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    together = {size: asyncio.Barrier(size) for size in (3, 2)}

    async def all_there(number: int) -> None:
        await together[3 if number <= 3 * len(ARMS) else 2].wait()

    async with FakeRouter(config) as router:
        router.before = all_there
        await run(config, tmp_path / "out", router, "--num-samples", "5", "--question-batch-size", "3")
        assert max(router.at_once) == 3
        arms = [body["moa"]["arm"] for body in router.runs]
    assert [len(set(arms[start : start + 3])) for start in (0, 3, 6, 9)] == [1, 1, 1, 1]
    assert {line.beside for line in read_runs(tmp_path / "out")} == {3, 2}


@aio
async def test_a_second_start_asks_only_what_is_missing(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    out = tmp_path / "out"
    async with FakeRouter(config) as router:
        first, _ = await run(config, out, router, "--num-samples", "3")
        log = (out / RUNS).read_bytes().splitlines(keepends=True)
        (out / RUNS).write_bytes(b"".join(log[:5]) + log[5][:40])  # as if it had been killed while it wrote
        before = len(router.runs)
        again, _ = await run(config, out, router, "--num-samples", "3")
        assert len(router.runs) - before == 12 - 5
    keys = [line.key for line in read_runs(out)]
    assert len(keys) == len(set(keys)) == 12
    assert [each["session"] for each in read_sessions(out)] == [1, 2]
    assert timeless(again) == timeless(first)


@aio
async def test_other_settings_are_refused_in_the_same_folder(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    async with FakeRouter(config) as router:
        await run(config, tmp_path / "out", router, "--num-samples", "1")
        for more in (("--num-samples", "2"), ("--num-samples", "1", "--seed", "5")):
            with pytest.raises(ConfigError, match="other settings"):
                await run(config, tmp_path / "out", router, *more)
        write_config(tmp_path, scale=2.0)
        with pytest.raises(ConfigError, match=r"other settings \(config\)"):
            await run(config, tmp_path / "out", router, "--num-samples", "1")


@aio
async def test_a_failed_run_is_told_and_repeated_at_the_next_start(tmp_path: Path) -> None:
    config = write_config(tmp_path)

    async def third_fails(number: int) -> int | None:
        return 500 if number == 3 else None

    async with FakeRouter(config) as router:
        router.before = third_fails
        summary, told = await run(config, tmp_path / "out", router, "--num-samples", "2")
        assert "not now" in told
        assert sorted(arm["failed"] for arm in summary["cells"][0]["arms"].values()) == [0, 0, 0, 1]
        summary, _ = await run(config, tmp_path / "out", router, "--num-samples", "2")
        assert [arm["failed"] for arm in summary["cells"][0]["arms"].values()] == [0, 0, 0, 0]
        assert len(router.runs) == 9


@aio
async def test_a_router_that_fails_everything_ends_the_experiment(tmp_path: Path) -> None:
    config = write_config(tmp_path)

    async def fails(_: int) -> int:
        return 503

    async with FakeRouter(config) as router:
        router.before = fails
        with pytest.raises(ExceptionGroup) as caught:
            await run(config, tmp_path / "out", router, "--num-samples", "20")
        assert isinstance(caught.value.exceptions[0], ServerDied)
        assert len(router.runs) == runner.MAX_FAILURES


@pytest.mark.parametrize("kept", [False, True])
def test_what_agents_said_is_kept_on_request(tmp_path: Path, kept: bool) -> None:
    class Talking(FakeRouter):
        def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
            told = super().answer(body)
            for agent in told["moa"]["agents"]:
                agent.update(text=f"{agent['agent']} says so.", output_ids=[1, 2])
            return told

    @aio
    async def test() -> None:
        config = write_config(tmp_path, agent_texts=kept)
        async with Talking(config) as router:
            await run(config, tmp_path / "out", router, "--num-samples", "1")

    test()
    for line in read_runs(tmp_path / "out"):
        assert [agent.get("text") for agent in line.run["agents"]] == [
            f"{agent['agent']} says so." if kept else None for agent in line.run["agents"]
        ]
        assert not any("output_ids" in agent for agent in line.run["agents"])


@aio
async def test_a_run_that_lost_an_agent_is_a_failed_one(tmp_path: Path) -> None:
    config = write_config(tmp_path)

    class Losing(FakeRouter):
        def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
            told = super().answer(body)
            if body["moa"]["arm"] == "tree":
                told["moa"]["agents"][1]["state"] = "failed"
            return told

    async with Losing(config) as router:
        summary, told = await run(config, tmp_path / "out", router, "--num-samples", "1")
    assert "agent p11 failed, and the run went on without it" in told
    assert set(summary["cells"][0]["arms"]) == {"dense", "splice", "exit"}


@aio
async def test_a_warm_up_has_as_many_at_once_and_short_answers_and_no_lines(tmp_path: Path) -> None:
    config = write_config(tmp_path, warm_up=1)
    three = asyncio.Barrier(3)

    async def waits_for_two_others(number: int) -> None:
        if 4 < number <= 16:
            await three.wait()

    async with FakeRouter(config) as router:
        router.before = waits_for_two_others
        samples = ("--question-batch-size", "1", "3", "--num-samples", "1", "3")
        summary, _ = await run(config, tmp_path / "out", router, *samples)
        warm = router.runs[: 4 * (1 + 3)]
        assert router.at_once[:4] == [1] * 4
    told = {asked["max_tokens"] for body in warm for asked in body["moa"]["sampling"].values()}
    assert told == {WARM_UP_TOKENS}
    counted = {body["messages"][0]["content"] for body in router.runs[len(warm) :]}
    assert not counted & {body["messages"][0]["content"] for body in warm}, "other questions"
    assert [(cell["concurrency"], cell["arms"]["tree"]["questions"]) for cell in summary["cells"]] == [(1, 1), (3, 3)]


@aio
async def test_only_full_batches_have_times_that_count(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    async with FakeRouter(config) as router:
        summary, told = await run(config, tmp_path / "out", router, "--num-samples", "5", "--question-batch-size", "3")
    for arm in summary["cells"][0]["arms"].values():
        assert (arm["questions"], arm["timed"]) == (5, 3)
    assert {(pair["questions"], pair["timed"]) for pair in summary["cells"][0]["pairs"]} == {(5, 3)}
    assert "times do not count: dense 2, tree 2, splice 2, exit 2" in " ".join(told.split())


def test_equal_answers_are_one_vote() -> None:
    def same(a: str, b: str) -> bool:
        return float(a) == float(b)

    assert most_frequent(["7", "0.5", None, ".5"], same) == 1
    assert most_frequent(["7", "8"], same) == 0
    assert most_frequent([None, "8"], same) == 1
    assert most_frequent([None, None], same) == 0


def decided(*exits: bool, question: str = "q", benchmark: str = "sums", concurrency: int = 1) -> RunLine:
    """A run in which two clusters of leaves and one above decided so."""
    clusters = ("c1", "c2", "mid")
    agents = [{"cluster": name, "layer": int(name == "mid")} for name in clusters]
    decisions = [{"cluster": name, "answers": [1, 2], "exit": told} for name, told in zip(clusters, exits, strict=True)]
    run = {"agents": agents, "decisions": decisions}
    return RunLine(benchmark=benchmark, concurrency=concurrency, question=question, arm="exit", run=run)


def test_exits_like_anothers_have_its_rate_in_each_layer_of_each_cell() -> None:
    """The leaves exited in 3 of 4 decisions, those above in none: one rate for all would be one half."""
    lines = [decided(True, True, False)]
    rates = ExitRates("exit")
    assert rates.rate(lines, ("sums", 1), 0) == 1.0
    lines += [decided(True, False, False), decided(False, False, True, benchmark="hard")]
    assert rates.rate(lines, ("sums", 1), 0) == 0.75
    assert rates.rate(lines, ("sums", 1), 1) == 0.0
    assert rates.rate(lines, ("hard", 1), 1) == 1.0
    assert rates.rate(lines, ("sums", 32), 0) == UNKNOWN_RATE


def test_recorded_exits_are_those_of_the_question(tmp_path: Path) -> None:
    identity = {"hash": "x", "config": {}, "benchmarks": {}, "samples": {}, "seed": 0}
    with RunLog(tmp_path, identity) as log:
        for line in (
            decided(True, True, True, question="b", concurrency=32),
            decided(False, True, False, question="a"),
            decided(True, False, False, question="c", concurrency=32),
            decided(False, False, True, question="b"),
        ):
            log.append(line)
    assert recorded_exits(tmp_path, "exit") == {"a": {"c2": 2}, "b": {"mid": 2}, "c": {"c1": 2}}


@aio
async def test_of_a_batch_that_was_cut_nothing_is_timed(tmp_path: Path) -> None:
    """Killed in the middle, a batch has left its faster runs: the slower ones are repeated, with less beside them."""
    config = write_config(tmp_path)
    out = tmp_path / "out"
    asked = ("--num-samples", "6", "--question-batch-size", "3")
    async with FakeRouter(config) as router:
        await run(config, out, router, *asked)
        log = (out / RUNS).read_bytes().splitlines(keepends=True)
        (out / RUNS).write_bytes(b"".join(log[:-1]))
        summary, told = await run(config, out, router, *asked)
    timed = {name: (arm["questions"], arm["timed"]) for name, arm in summary["cells"][0]["arms"].items()}
    assert sorted(timed.values()) == [(6, 3), (6, 6), (6, 6), (6, 6)]
    cut = next(name for name, counts in timed.items() if counts == (6, 3))
    assert f"times do not count: {cut} 3." in " ".join(told.split())


@aio
async def test_a_batch_that_is_never_full_is_told(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    async with FakeRouter(config) as router:
        summary, told = await run(config, tmp_path / "out", router, "--num-samples", "2", "--question-batch-size", "8")
    assert {arm["timed"] for arm in summary["cells"][0]["arms"].values()} == {0}
    assert "no batch of 8 was full" in " ".join(told.split())
    assert all(arm["latency_s"]["interval"] is None for arm in summary["cells"][0]["arms"].values())


@aio
async def test_votes_random_exits_and_repeated_ones(tmp_path: Path) -> None:
    arms = {
        "exit": ARMS["exit"],
        "random": {"tree": TREE, "arm": "exit", "exits": {"like": "exit"}},
        "vote": {"tree": ALONE, "arm": "tree", "answers": 3},
    }
    config = write_config(tmp_path, arms=arms)
    async with FakeRouter(config) as router:
        summary, _ = await run(config, tmp_path / "out", router, "--num-samples", "40")
        (cell,) = summary["cells"]
        rates = [
            sum(each["exits"] for each in cell["arms"][name]["exits"].values()) / 80 for name in ("exit", "random")
        ]
        assert rates[0] == pytest.approx(0.7, abs=0.15)
        assert rates[1] == pytest.approx(rates[0], abs=0.2)
        votes = [body for body in router.runs if body["model"] == "alone"]
        assert {(body["n"], *body["moa"]["sampling"]) for body in votes} == {(3, "final", "final#2", "final#3")}
        repeated = {"again": {"tree": TREE, "arm": "exit", "exits": {"runs": str(tmp_path / "out"), "arm": "exit"}}}
        second = write_config(tmp_path, "second.yaml", arms=repeated)
        router.runs.clear()
        await run(second, tmp_path / "again", router, "--num-samples", "40")
    told = {
        line.index: {each["cluster"] for each in line.run["decisions"] if each["exit"]}
        for line in read_runs(tmp_path / "out")
        if line.arm == "exit"
    }
    asked = [set(body["moa"]["exit"]["exits"]) for body in router.runs]
    assert asked == [told[index] for index in range(40)]


@aio
async def test_a_layers_time_counts_alone_and_lengths_can_be_swept(tmp_path: Path) -> None:
    config = write_config(tmp_path, layer=1)
    async with FakeRouter(config) as router:
        summary, _ = await run(config, tmp_path / "out", router, "--num-samples", "2", "--lengths", "second-layer:50")
    assert (summary["lengths"], summary["layer"]) == ("second-layer:50", 1)
    for arm in summary["cells"][0]["arms"].values():
        # 10 ms to the first of 50 tokens of 2 ms, whatever the first layer took; the bound has no prefill.
        assert arm["latency_s"]["mean"] == pytest.approx(0.01 + 49 * 0.002)
        assert arm["bound_s"] == pytest.approx(50 * 0.002)
        assert sum(arm["critical_path_s"].values()) == pytest.approx(arm["latency_s"]["mean"])


@aio
async def test_another_kind_of_machine_is_refused(tmp_path: Path) -> None:
    config = write_config(tmp_path)

    async def fails(_: int) -> int:
        return 503

    async with FakeRouter(config) as router:
        router.before = fails
        await run(config, tmp_path / "out", router, "--num-samples", "1")
        (session,) = read_sessions(tmp_path / "out")
        session["machine"]["gpus"], session["gpus"] = ["NVIDIA H100"], 2
        (tmp_path / "out" / SESSIONS).write_bytes(orjson.dumps(session) + b"\n")
        with pytest.raises(ConfigError, match=r"session 1 .* ran on 2 GPUs \(NVIDIA H100\), and this machine is"):
            await run(config, tmp_path / "out", router, "--num-samples", "1")


@aio
async def test_a_router_without_the_trees_is_refused(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    other = write_config(tmp_path, "other.yaml", arms={"vote": {"tree": ALONE}})
    async with FakeRouter(other) as router:
        with pytest.raises(ConfigError, match=r"does not serve the tree 'small'.*--trees .*trees\.json"):
            await run(config, tmp_path / "out", router)
        named = {"tree": {**ALONE, "name": "alone", "layers": TREE["layers"]}}
        third = write_config(tmp_path, "third.yaml", arms={"vote": named})
        with pytest.raises(ExceptionGroup) as caught:
            await run(third, tmp_path / "third", router, "--num-samples", "1")
        assert "has other agents" in str(caught.value.exceptions[0])
    with pytest.raises(ConfigError, match="cannot be reached"):
        await run(config, tmp_path / "gone", router)


@aio
async def test_two_processes_cannot_share_a_folder(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    async with FakeRouter(config) as router:
        tried = []

        async def second(number: int) -> None:
            if number == 1:
                with pytest.raises(ConfigError, match="another process runs"):
                    await run(config, tmp_path / "out", router)
                tried.append(number)

        router.before = second
        await run(config, tmp_path / "out", router, "--num-samples", "1")
    assert tried == [1]


def test_the_report_is_written_again_and_refused_for_another_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--report", str(tmp_path)]) == 2
    assert "there is no experiment in it" in capsys.readouterr().err
    assert main(["--list"]) == 0
    assert "sums" in capsys.readouterr().out
    config = write_config(tmp_path)
    assert main(["--config", str(config), "--out", str(tmp_path / "x"), "--benchmark", "sum"]) == 2
    assert "did you mean sums" in capsys.readouterr().err
    assert main(["--config", str(config), "--out", str(tmp_path / "x")]) == 2
    assert "neither" in capsys.readouterr().err or not (tmp_path / "x" / "summary.json").exists()


def timeless(summary: dict[str, Any]) -> Any:
    """A summary without what a clock told."""
    times = {"sessions", "latency_s", "latency_ratio", "critical_path_s", "reduction", "gpu_seconds", "judge"}
    return {
        key: timeless(value)
        if isinstance(value, dict)
        else [timeless(each) if isinstance(each, dict) else each for each in value]
        if isinstance(value, list)
        else value
        for key, value in summary.items()
        if key not in times
    }
