"""nginx as fake servers, a prefill and a decode server or two plain ones: static responses, from one process."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from router.bench.errors import BenchError
from router.bench.fake_responses import GENERATED, Role, fake_roles, worker_info
from router.bench.processes import free_port, running, wait_until_listening

# One process on purpose: the router and the load generator share the cores with it.
CONFIG = """
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
def nginx_pair(folder: Path, plain: bool = False) -> Iterator[tuple[str, str]]:
    """Run nginx; gives the addresses of the prefill and the decode server, or of two plain ones.

    Raises:
        BenchError: It is not installed or does not start.
    """
    program = shutil.which("nginx")
    if program is None:
        raise BenchError("nginx is missing; install it (Debian: `apt-get install nginx-light`) or give --pure.")
    prefill, decode = free_port(), free_port()
    config = folder / "nginx.conf"
    first, second = fake_roles(plain)
    servers = "\n".join((_server(first, prefill), _server(second, decode)))
    config.write_text(CONFIG.format(folder=folder, servers=servers))
    with running("nginx", [program, "-e", "stderr", "-c", str(config)], folder) as process:
        wait_until_listening(process, decode)
        yield f"http://127.0.0.1:{prefill}", f"http://127.0.0.1:{decode}"


def _server(role: Role, port: int) -> str:
    locations = [f"location = {path} {_return(body)}" for path, body in worker_info(role).items()]
    rest = f"location / {_return(GENERATED)} }}"
    return "\n".join((f"server {{ listen 127.0.0.1:{port} backlog=4096;", *locations, rest))


def _return(body: bytes) -> str:
    return f"{{ return 200 '{body.decode()}'; }}"
