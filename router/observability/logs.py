"""Where log lines go."""

import logging
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path

LINE = "%(asctime)s %(levelname)s %(message)s"


def set_up_logs(level: str, folder: str | None, name: str = "router") -> None:
    """Log to stderr, and to a file a day where a folder is given; raises `OSError` when it cannot be written.

    The access log's lines are bare JSON, so that a collector reads them without a pattern.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if folder is not None:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            handlers.append(TimedRotatingFileHandler(Path(folder) / f"{name}.log", when="midnight"))
        except OSError as error:
            raise OSError(error.errno, f"cannot write to the log folder {folder} ({error.strerror})") from None
    named = {"warn": "WARNING"}.get(level, level.upper())
    logging.basicConfig(level=named, format=LINE, handlers=handlers, force=True)
    for handler in handlers:
        handler.setFormatter(_Lines(LINE))


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage() if record.name == "router.access" else super().format(record)
