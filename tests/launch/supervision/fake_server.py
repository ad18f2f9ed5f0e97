"""A process that answers like a server or the router: `python -m tests.launch.supervision.fake_server ...`."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OVERLAY: dict[str, object] = {"sglang_ext": {"processes": {"scheduler": {}, "tokenizer": {}}}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
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

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Requests are not logged."""


if __name__ == "__main__":
    if "--no-such-flag" in sys.argv:
        sys.exit("no such flag")
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
