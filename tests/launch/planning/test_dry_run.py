"""The plan as text."""

import shlex
from pathlib import Path

from launch.config.loading import first_models, load_config
from launch.planning.dry_run import command_line, render
from launch.planning.plan import make_plan
from tests.launch.machines import cpu_machine, empty_gpus, gpu_machine, port_counter

CPU_TEXT = """\
device: cpu
router port: 30000

host     total     free      planned  left
2 cores  24.0 GiB  20.0 GiB  2.3 GiB  17.7 GiB

server             where  memory   KV tokens  port   bootstrap
smollm2-a-prefill  CPU    1.1 GiB  8192       30001  30003
smollm2-a-decode   CPU    1.1 GiB  8192       30004  -

start 1: smollm2-a-prefill
start 2: smollm2-a-decode

# smollm2-a-prefill
env CUDA_VISIBLE_DEVICES='' OMP_NUM_THREADS=1 SGLANG_CUDA_COREDUMP_BEFORE_CRASH_WAIT_SECS=0 \
SGLANG_EXT_KV_POOL_BYTES=188743680 SGLANG_PLATFORM=faster_moa_cpu python -m sglang.launch_server \
--model-path builtin:smollm2 --served-model-name smollm2-a --host 127.0.0.1 --port 30001 --nccl-port 30002 \
--disaggregation-mode prefill --disaggregation-transfer-backend nixl --disaggregation-bootstrap-port 30003 \
--context-length 4096 --max-total-tokens 8192 --skip-server-warmup --device cpu \
--attention-backend torch_native --sampling-backend pytorch --max-running-requests 16 \
--disable-overlap-schedule --sleep-on-idle --disable-prefill-cuda-graph --disable-decode-cuda-graph \
--preferred-sampling-params '{"temperature": 0.0}'
"""


def test_a_pair_on_cpu() -> None:
    inventory = cpu_machine(20)
    plan = make_plan(first_models(load_config(None, device="cpu"), 1), inventory, ports=port_counter())
    text = render(plan, inventory)
    assert text.startswith(CPU_TEXT)
    assert text.count("python -m sglang.launch_server") == 2


def test_six_servers_on_two_gpus() -> None:
    inventory = gpu_machine(139.2, 139.0)
    plan = make_plan(load_config(None, device="gpu"), inventory, ports=port_counter())
    lines = render(plan, inventory).splitlines()
    assert lines[3:6] == [
        "GPU  name         total      free       planned    left     of it kept back",
        "0    NVIDIA H200  139.8 GiB  139.2 GiB  136.4 GiB  2.8 GiB  2.8 GiB",
        "1    NVIDIA H200  139.8 GiB  139.0 GiB  136.2 GiB  2.8 GiB  2.8 GiB",
    ]
    assert sum(line.startswith("start ") for line in lines) == 1
    (note,) = (line for line in lines if line.startswith("note: GPU 0 is shared by 3 servers, which"))
    assert note.endswith("take turns on it (--mps: use it at the same time).")


def test_a_command_line_can_be_pasted_into_a_shell() -> None:
    plan = make_plan(load_config(Path("h200-dummy"), device="gpu"), empty_gpus(8), ports=port_counter())
    for server in plan.servers:
        words = shlex.split(command_line(server))
        assert words[0] == "env"
        env = [f"{key}={value}" for key, value in sorted(server.env.items())]
        assert words[1:] == [*env, "python", "-m", "sglang.launch_server", *server.argv]
