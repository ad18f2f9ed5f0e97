"""wrk as the load generator for short requests."""

import shutil
import subprocess
from pathlib import Path

import orjson

from router.bench.errors import BenchError
from router.bench.sample import Sample

REQUEST_TIMEOUT = 20  # seconds
# wrk's own summary rounds to three digits.
SCRIPT = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = [==[{body}]==]
function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        'RESULT {{"p50":%g,"p99":%g,"requests":%d,"seconds":%.6f,"errors":%d}}\\n',
        latency:percentile(50), latency:percentile(99), summary.requests, summary.duration / 1e6,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


def wrk_path() -> str:
    """The path of wrk; raises `BenchError` when it is not installed."""
    path = shutil.which("wrk")
    if path is None:
        raise BenchError("wrk is missing; install it (Debian: `apt-get install wrk`) or give --pure.")
    return path


def version() -> str:
    """Its version."""
    done = subprocess.run([wrk_path(), "-v"], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.split()[1]


def measure(url: str, path: str, body: bytes, *, connections: int, seconds: float, folder: Path) -> Sample:
    """Post `body` on each connection, again after each response, for `seconds` (rounded). Raises `BenchError`."""
    script = folder / "wrk.lua"
    script.write_text(SCRIPT.format(body=body.decode()))
    duration = max(1, round(seconds))
    command = [
        wrk_path(),
        "-t1",
        f"-c{connections}",
        f"-d{duration}s",
        "--timeout",
        f"{REQUEST_TIMEOUT}s",
        "-s",
        str(script),
        url + path,
    ]
    timeout = duration + REQUEST_TIMEOUT + 10
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise BenchError(f"wrk did not end within {timeout} s of its start.") from None
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            return Sample(**orjson.loads(line.removeprefix("RESULT ")))
    raise BenchError(f"wrk failed: {(done.stderr or done.stdout).strip()[:300]}")
