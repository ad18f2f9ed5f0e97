"""Sets up the process's logging: to stderr, and to files where a folder is given."""

import logging
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def configure_logging(level: str, folder: str | None, name: str = "router") -> None:
    """Log to stderr, and to one file a day where a folder is given.

    Raises:
        OSError: The folder cannot be written.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if folder is not None:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            handlers.append(TimedRotatingFileHandler(Path(folder) / f"{name}.log", when="midnight"))
        except OSError as error:
            raise OSError(error.errno, f"cannot write to the log folder {folder} ({error.strerror})") from None
    level_name = {"warn": "WARNING"}.get(level, level.upper())
    logging.basicConfig(level=level_name, format=LOG_FORMAT, handlers=handlers, force=True)
    for handler in handlers:
        handler.setFormatter(_LogFormatter(LOG_FORMAT))


class _LogFormatter(logging.Formatter):
    """Writes lines of the access log as bare JSON, which a log collector reads without a pattern."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage() if record.name == "router.access" else super().format(record)
