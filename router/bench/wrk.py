"""wrk as the load generator for short requests."""

import shutil
import subprocess
from pathlib import Path

import orjson

from router.bench.errors import BenchError
from router.bench.sample import Sample

STALL = 20  # seconds after which an answer that does not come is an error
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


def program() -> str:
    """The path of wrk; raises `BenchError` when it is not installed."""
    found = shutil.which("wrk")
    if found is None:
        raise BenchError("wrk is missing; install it (Debian: `apt-get install wrk`) or give --pure.")
    return found


def version() -> str:
    """What it calls itself."""
    told = subprocess.run([program(), "-v"], capture_output=True, text=True, check=False)  # noqa: S603
    return told.stdout.split()[1]


def measure(url: str, path: str, body: bytes, *, connections: int, seconds: float, folder: Path) -> Sample:
    """Post `body` on each connection, again after each answer, for `seconds` (rounded to whole ones)."""
    script = folder / "wrk.lua"
    script.write_text(SCRIPT.format(body=body.decode()))
    whole = max(1, round(seconds))
    command = [
        program(),
        "-t1",
        f"-c{connections}",
        f"-d{whole}s",
        "--timeout",
        f"{STALL}s",
        "-s",
        str(script),
        url + path,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=whole + STALL + 10)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise BenchError(f"wrk did not end within {whole + STALL + 10} s of its start.") from None
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            return Sample(**orjson.loads(line.removeprefix("RESULT ")))
    raise BenchError(f"wrk failed: {(done.stderr or done.stdout).strip()[:300]}")
