"""What a node says in its log: lines for people, or lines of JSON for programs. Tracebacks are for the file.

The file, `node.log` in the home, always has everything and is bounded; the terminal has what its reader asked for.
"""

import json
import logging
import re
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Literal

LogFormat = Literal["text", "json"]
LOG_BYTES_MAX = 5 * 1024 * 1024  # of one file; with the older ones 20 MiB at the most
LOG_FILES_OLDER = 3
# Libraries whose chatter is theirs: below a warning nobody needs it.
_QUIET = ("libp2p", "hypercorn", "httpx", "httpcore", "asyncio", "multiaddr")
# A terminal obeys these, and log lines hold other people's words: a run's reason, a peer's name.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# What every record has; the rest was given by whoever logged it.
_USUAL = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class TextFormatter(logging.Formatter):
    """`12:00:01 WARNING message`. Without `tracebacks` an exception is one line."""

    def __init__(self, *, tracebacks: bool, dates: bool = False) -> None:
        super().__init__(datefmt="%Y-%m-%d %H:%M:%S" if dates else "%H:%M:%S")
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname} "
        text = f"{self.formatTime(record, self.datefmt)} {level}{record.getMessage()}"
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            short = f" ({type(error).__name__}: {error})"
            text += f"\n{self.formatException(record.exc_info)}" if self._tracebacks else short
        return _CONTROL.sub("\ufffd", text)


class JsonFormatter(logging.Formatter):
    """One object a line: time (ISO 8601, UTC), level, logger, message, and what else was given."""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in record.__dict__.items() if key not in _USUAL}
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
            if self._tracebacks:
                line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up_logging(file: Path, *, terminal: bool, log_format: LogFormat, debug: bool) -> None:
    """Log to `file`, and with `terminal` to standard error too. Call it once a process, before anything is logged."""
    logging.raiseExceptions = False  # a terminal that went away is no news
    root = logging.getLogger()
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    to_file = RotatingFileHandler(file, maxBytes=LOG_BYTES_MAX, backupCount=LOG_FILES_OLDER, encoding="utf-8")
    to_file.setFormatter(_formatter(log_format, tracebacks=True, dates=True))
    handlers: list[logging.Handler] = [to_file]
    if terminal:
        to_terminal = logging.StreamHandler(sys.stderr)
        to_terminal.setFormatter(_formatter(log_format, tracebacks=debug, dates=False))
        handlers.append(to_terminal)
    root.handlers[:] = handlers
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def log_to_file_only() -> None:
    """From now on the terminal is somebody else's."""
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if isinstance(handler, logging.FileHandler)]
    root.addHandler(logging.NullHandler())  # with none at all the library would print to the terminal


def _formatter(log_format: LogFormat, *, tracebacks: bool, dates: bool) -> logging.Formatter:
    if log_format == "json":
        return JsonFormatter(tracebacks=tracebacks)
    return TextFormatter(tracebacks=tracebacks, dates=dates)
