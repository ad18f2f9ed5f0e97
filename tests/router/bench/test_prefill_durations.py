"""What the benchmark of speculative prefill reads from a prefill server's log."""

from pathlib import Path

from router.bench.speculative_prefill.prefill_durations import durations_table, prefill_durations

LINE = (
    "[2026-11-25 02:50:40] ReqTimeStats(rid={rid}-6f6a16f96d03, bootstrap_room=2215998279258898851, input_len=60, "
    "cached_input_len=0, output_len=1, attempts=0, type=prefill): bootstrap_duration=0.35ms, queue_duration={queue}ms, "
    "forward_duration=896.81ms, entry_time=1795575039.492, transfer_speed=0.01 GB/s, transfer_total=2.64 MB\n"
)


def test_waits_of_a_run(tmp_path: Path) -> None:
    log = tmp_path / "prefill.log"
    log.write_text(
        "something else\n"
        + LINE.format(rid="aaaa-ordinary-1-0", queue=1.0)
        + LINE.format(rid="aaaa-ordinary-2-13", queue=3.0)
        + LINE.format(rid="bbbb-ordinary-1-0", queue=100.0)  # another run
        + LINE.format(rid="aaaa-overlay_ordinary-1-0", queue=5.0)
    )
    durations = prefill_durations(log, "aaaa", ("ordinary", "overlay_ordinary", "blocking_ordinary"))
    assert durations["ordinary"]["queue_duration"] == {"p50": 1.0, "p95": 3.0, "p99": 3.0}
    assert durations["overlay_ordinary"]["queue_duration"]["p50"] == 5.0
    assert durations["ordinary"]["forward_duration"]["p99"] == 896.81
    assert durations["blocking_ordinary"] == {}
    assert "overlay_ordinary, queue_duration" in durations_table(durations)
