"""A process that answers like a server or the router: `python -m tests.launch.supervision.fake_server ...`."""

import json
import subprocess
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path

from router.early_exit.judge_protocol import JUDGE_MODULE
from tests.launch.http_server import QuietHandler

OVERLAY: dict[str, object] = {"sglang_ext": {"processes": {"scheduler": {}, "tokenizer": {}}}}


class Handler(QuietHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "--never-ready" in sys.argv:
            self.send_error(503)
            return
        self._answer({"internal_states": [OVERLAY if "--no-overlay" not in sys.argv else {}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        print(f"POST {self.path} {body['model']}", flush=True)
        self._answer({})

    def _answer(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def second_start() -> bool:
    """Whether this is not the first start; the folder of the argument remembers."""
    if "--fail-from-second-start" not in sys.argv:
        return False
    marks = Path(sys.argv[sys.argv.index("--fail-from-second-start") + 1])
    mark = marks / sys.argv[sys.argv.index("--port") + 1]
    found = mark.exists()
    mark.touch()
    return found


if __name__ == "__main__":
    if "--no-such-flag" in sys.argv:
        sys.exit("no such flag")
    if second_start():
        sys.exit("sglang_ext.errors.NoMemory: there is no room for the KV pool.")
    if "--trees" in sys.argv:  # the router has a judge, which waits for its stdin
        subprocess.Popen([sys.executable, "-c", "input()", JUDGE_MODULE], stdin=subprocess.PIPE)
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
