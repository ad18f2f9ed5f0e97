"""SGLang's dispatch to data-parallel ranks."""

from typing import Any, Protocol


class DataParallelController(Protocol):
    """`sglang.srt.managers.data_parallel_controller.DataParallelController`: hands requests to the ranks."""

    recv_from_tokenizer: Any  # `zmq.Socket`, from which `event_loop` reads
