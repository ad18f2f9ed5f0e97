"""The servers that an experiment starts: which config, with what more."""

from pathlib import Path

from launch.config.loading import load_config
from launch.config.schema import LaunchConfig, ModelConfig
from launch.experiment.servers import METRICS_FLAG, with_metrics


def test_sglang_servers_tell_their_queues() -> None:
    launch = with_metrics(load_config(Path("h200-dummy"), device="gpu"))
    assert launch.server_args == [METRICS_FLAG]
    assert with_metrics(launch) == launch


def test_servers_of_vllm_alone_get_no_flag_of_sglang(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    launch = LaunchConfig(
        models=[ModelConfig(name="m", path=str(tmp_path), engine="vllm")],
        context_length=1024,
    )
    assert with_metrics(launch).server_args == []
