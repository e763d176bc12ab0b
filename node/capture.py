"""Catching what a task's code says by logging and printing, and handing it on as TaskOutput."""

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from node.seams import TaskOutput
from node.sgd import Progress
from node.worker_output import LineCutter, cut_line

Say = Callable[[TaskOutput], None]


class LogCapture(logging.Handler):
    """Hands every record on, with its level and the round under way."""

    def __init__(self, say: Say, progress: Progress) -> None:
        super().__init__()
        self._say = say
        self._progress = progress
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))  # with the traceback, if there is one

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        self._say(TaskOutput("log", text=cut_line(text), level=record.levelname, round=self._progress.round))


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
        self._hand_on(self._cutter.feed(text.encode()))
        return len(text)

    def end(self) -> None:
        self._hand_on(self._cutter.end())

    def _hand_on(self, lines: list[str]) -> None:
        for line in lines:
            self._say(TaskOutput(self._kind, text=cut_line(line), round=self._progress.round))


@contextmanager
def captured_in_process(say: Say, progress: Progress) -> Iterator[None]:
    """Within, logging and printing of this process are the task's and go to `say` alone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [LogCapture(say, progress)]
    root.setLevel(logging.INFO)
    prints = PrintCapture("stdout", say, progress), PrintCapture("stderr", say, progress)
    try:
        with redirect_stdout(prints[0]), redirect_stderr(prints[1]):
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for stream in prints:
            stream.end()
