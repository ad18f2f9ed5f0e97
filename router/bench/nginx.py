"""nginx as a fake prefill and decode server: static answers, in one process."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from router.bench.answers import GENERATED, Role, told
from router.bench.errors import BenchError
from router.bench.processes import free_port, running, until_open

# One process on purpose: the machine's cores are what the router and the load generator share with it.
FRAME = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    access_log off; default_type application/json;
    keepalive_requests 1000000000; keepalive_timeout 600s; client_max_body_size 0;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
{servers}
}}
"""


@contextmanager
def nginx(folder: Path) -> Iterator[tuple[str, str]]:
    """Run nginx; the addresses of the prefill and the decode server.

    Raises:
        BenchError: It is not installed or does not start.
    """
    program = shutil.which("nginx")
    if program is None:
        raise BenchError("nginx is missing; install it (Debian: `apt-get install nginx-light`) or give --pure.")
    prefill, decode = free_port(), free_port()
    config = folder / "nginx.conf"
    servers = "\n".join((_server("prefill", prefill), _server("decode", decode)))
    config.write_text(FRAME.format(folder=folder, servers=servers))
    with running("nginx", [program, "-e", "stderr", "-c", str(config)], folder) as process:
        until_open(process, decode)
        yield f"http://127.0.0.1:{prefill}", f"http://127.0.0.1:{decode}"


def _server(role: Role, port: int) -> str:
    places = [f"location = {path} {_says(answer)}" for path, answer in told(role).items()]
    return "\n".join((f"server {{ listen 127.0.0.1:{port} backlog=4096;", *places, f"location / {_says(GENERATED)} }}"))


def _says(answer: bytes) -> str:
    return f"{{ return 200 '{answer.decode()}'; }}"
