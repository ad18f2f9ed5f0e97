"""Sets up the process's logging: to stderr, and to files where a folder is given."""

import logging
import traceback
from copy import copy
from datetime import UTC, datetime
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path
from types import TracebackType

import orjson

JUDGE_LOGGER = "router.early_exit.judge_process"  # it passes on what a process that reads answers writes
ACCESS_LOGGER = "router.access"
MAX_CAUSES = 10  # errors behind an error that are logged
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def configure_logging(
    level: str, folder: str | None, name: str = "router", *, redact_text: bool = False, as_json: bool = False
) -> None:
    """Log to stderr, and to one file a day where a folder is given.

    Args:
        level: What is logged.
        folder: Of the files; None for none.
        name: Of the files.
        redact_text: Whether errors are logged without their messages, which may quote prompts and answers.
        as_json: Whether every line is a JSON object, and not those of requests alone.

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
    if redact_text:
        logging.getLogger(JUDGE_LOGGER).setLevel(logging.WARNING)
    level_name = {"warn": "WARNING"}.get(level, level.upper())
    logging.basicConfig(level=level_name, format=LOG_FORMAT, handlers=handlers, force=True)
    kind = _RedactingFormatter if redact_text else _LogFormatter
    for handler in handlers:
        handler.setFormatter(_JsonFormatter(kind("%(message)s")) if as_json else kind(LOG_FORMAT))


class _LogFormatter(logging.Formatter):
    """Writes lines of the access log as bare JSON, which a log collector reads without a pattern."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage() if record.name == ACCESS_LOGGER else super().format(record)


class _RedactingFormatter(_LogFormatter):
    """Writes errors with their kinds and places, but without their messages."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record; of asyncio's only the first: the others show tasks with their errors and arguments."""
        if record.name == "asyncio":
            record = copy(record)
            record.msg, record.args = record.getMessage().partition("\n")[0], None
        return super().format(record)

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - as `logging` calls it
        """The traceback of an error, and of those that led to it."""
        parts: list[str] = []
        error = ei[1]
        while error is not None and len(parts) < MAX_CAUSES:
            frames = "".join(traceback.format_tb(error.__traceback__))
            parts.append(f"{frames}{type(error).__name__}: (redacted)")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\n".join(reversed(parts))


class _JsonFormatter(logging.Formatter):
    """Writes each record as one line with a JSON object.

    Args:
        lines: Writes the message of a record, and the error with it.
    """

    def __init__(self, lines: _LogFormatter) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record; that of a request is one already."""
        message = self._lines.format(record)
        if record.name == ACCESS_LOGGER:
            return message
        line = {"time": timestamp(record.created), "level": record.levelname, "logger": record.name, "message": message}
        return orjson.dumps(line, default=str).decode()


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as a time of day and date in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
