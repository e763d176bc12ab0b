"""Catching what a task's code says by logging, warning and printing, and handing it on as TaskOutput.

The task may set levels as it likes, also by `logging.basicConfig`; its records go to the node alone, and once.
"""

import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from types import TracebackType
from typing import Any, TextIO

from fednode_logging import text_of
from node.seams import TaskOutput
from node.training.sgd import Progress
from node.training.worker_checks import level_name
from node.training.worker_output import LineCutter, cut_line, cut_record

Say = Callable[[TaskOutput], None]


class LogCapture(logging.Handler):
    """Hands every record on, with its level and the round under way."""

    def __init__(self, say: Say, progress: Progress) -> None:
        super().__init__()
        self._say = say
        self._progress = progress
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))  # with the traceback, if there is one

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "is_recorded", False):
            return  # whoever is told of a line logs it too; in a simulation that is in this very process
        try:
            text = cut_record(text_of(self.format(record)))
        except Exception:  # noqa: BLE001 - as in every handler: a message that cannot be formatted harms nobody
            self.handleError(record)
            return
        self._say(TaskOutput("log", text=text, level=level_name(record.levelno), round=self._progress.round))


class PrintCapture(io.TextIOBase):
    """A text stream that hands every line on."""

    def __init__(self, kind: str, say: Say, progress: Progress) -> None:
        self._kind = kind
        self._say = say
        self._progress = progress
        self._cutter = LineCutter()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._hand_on(self._cutter.feed(text.encode(errors="replace")))
        return len(text)

    def end(self) -> None:
        self._hand_on(self._cutter.end())

    def _hand_on(self, lines: list[str]) -> None:
        for line in lines:
            self._say(TaskOutput(self._kind, text=cut_line(line), round=self._progress.round))


@contextmanager
def captured_logging(say: Say, progress: Progress) -> Iterator[None]:
    """Within, log records, warnings and what ends a thread are the task's and go to `say` alone."""
    root, capture = logging.getLogger(), LogCapture(say, progress)
    handlers, level = root.handlers[:], root.level
    configure, warn, ended = logging.basicConfig, warnings.showwarning, threading.excepthook
    root.handlers[:] = [capture]
    root.setLevel(logging.INFO)
    logging.basicConfig = partial(_configured, configure, capture)
    warnings.showwarning = _warned
    threading.excepthook = _thread_ended
    try:
        yield
    finally:
        logging.basicConfig, warnings.showwarning, threading.excepthook = configure, warn, ended
        root.handlers[:] = handlers
        root.setLevel(level)


@contextmanager
def captured_in_process(say: Say, progress: Progress) -> Iterator[None]:
    """Within, logging and printing of this process are the task's and go to `say` alone."""
    prints = PrintCapture("stdout", say, progress), PrintCapture("stderr", say, progress)
    try:
        with captured_logging(say, progress), redirect_stdout(prints[0]), redirect_stderr(prints[1]):
            yield
    finally:
        for stream in prints:
            stream.end()


def _configured(configure: Callable[..., None], capture: LogCapture, **options: Any) -> None:
    """The task's logging.basicConfig: it counts as if nobody had set up logging, but what would write to the screen is
    left to the capture, which writes no line twice."""
    root = logging.getLogger()
    root.removeHandler(capture)
    configure(**options)
    screens = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    for handler in root.handlers[:]:
        if isinstance(handler, logging.StreamHandler) and handler.stream in screens:
            root.removeHandler(handler)
    root.addHandler(capture)


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    text = warnings.formatwarning(str(message), category, filename, lineno, line)
    if file is None:
        logging.getLogger("py.warnings").warning("%s", text.rstrip())
    else:
        file.write(text)


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    """An exception has ended a thread of the task's. The round goes on, as in any program."""
    if ended.exc_value is None or issubclass(ended.exc_type, SystemExit):
        return
    trace: TracebackType | None = ended.exc_traceback
    name = ended.thread.name if ended.thread is not None else "a thread"
    logging.getLogger("threading").error("%s ended", name, exc_info=(ended.exc_type, ended.exc_value, trace))
