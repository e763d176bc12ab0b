"""What a worker says, held within bounds: a task that prints gigabytes must neither fill the record nor busy the node.

Lines and metrics beyond a burst and a steady rate are left out and counted. Of what is printed in a flood only the line
ends are counted, which costs next to nothing, so the task is not held up; whoever prints faster still is slowed down.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from node.seams import TaskOutput

LINE_CHARACTERS_MAX = 2000  # a screenful; what is longer is data, not a message
LINES_BURST = 1000  # a traceback or a model's summary passes whole …
LINES_PER_S = 20.0  # … and what goes on and on comes down to what a person could still read
METRICS_BURST = 10_000  # single values: some hundred steps of a round logged at once …
METRICS_PER_S = 200.0  # … at this rate for a whole day 17 million rows, which the store bears
METRIC_KEYS_MAX = 100  # in one call of fednode.log
METRIC_NAME_CHARACTERS_MAX = 80
FRAME_READ_BYTES = 64 * 1024  # at a time, of frames: some hundred at most, so that other tasks have their turn
CUT_BYTES_PER_S = 1024 * 1024  # of printed text; splitting it into lines costs a few CPU milliseconds a second
READ_BYTES_PER_S = 128 * 1024 * 1024  # of printed text that is only counted: a gigabyte holds a task up for 8 s …
PIPE_BYTES = 1024 * 1024  # … and is read in pieces of up to this, so that it takes a tenth of a core
LEFT_OUT_TOLD_EVERY_S = 10.0  # while a flood goes on
LINK_BYTES_PER_S = 16 * 1024 * 1024  # of frames: an answer with an update of 1 MiB is not held up

Say = Callable[[TaskOutput], None]


class Bucket:
    """A token bucket: `burst` at once, `rate` per second in the long run. Time in seconds comes in from outside."""

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self._burst, self._rate = burst, rate
        self._level, self._at = burst, now

    def take(self, wanted: int, now: float) -> int:
        """How many of `wanted` may pass now."""
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        taken = min(wanted, int(self._level))
        self._level -= taken
        return taken


class OutputGate:
    """Passes what a worker says on to `say`, in bounds, with the round under way."""

    def __init__(self, say: Say, now: float) -> None:
        self._say = say
        self._lines = Bucket(LINES_BURST, LINES_PER_S, now)
        self._metrics = Bucket(METRICS_BURST, METRICS_PER_S, now)
        self._left_out = 0
        self._told_at = now - LEFT_OUT_TOLD_EVERY_S
        self.round = 0

    def lines(self, kind: str, lines: list[str], now: float, level: str = "INFO") -> None:
        """Pass lines on. `level` is that of a logging call."""
        allowed = self._lines.take(len(lines), now)
        if allowed and now - self._told_at >= LEFT_OUT_TOLD_EVERY_S:
            self._told_at = now
            self.settle()
        for line in lines[:allowed]:
            self._say(TaskOutput(kind, text=cut_line(line), level=level, round=self.round))
        self._left_out += len(lines) - allowed

    def leave_out(self, lines: int) -> None:
        """So many lines were not even looked at."""
        self._left_out += lines

    def metrics(self, values: Mapping[str, float], place: Mapping[str, int], now: float) -> None:
        """Pass the values of one call of fednode.log on, all or none. `place` holds round, epoch and step."""
        if self._metrics.take(len(values), now) < len(values):
            self._left_out += 1
        else:
            round_number, epoch, step = (place[key] for key in ("round", "epoch", "step"))
            self._say(TaskOutput("metric", values=values, round=round_number, epoch=epoch, step=step))

    def settle(self) -> None:
        """Say how much was left out, if anything was."""
        if self._left_out:
            kept = f"{LINES_PER_S:g} lines and {METRICS_PER_S:g} metrics a second are kept"
            text = f"{self._left_out} lines or metrics were left out: the task says too much; {kept}"
            self._say(TaskOutput("log", text=text, level="WARNING", round=self.round))
        self._left_out = 0


def cut_line(line: str) -> str:
    return line if len(line) <= LINE_CHARACTERS_MAX else line[: LINE_CHARACTERS_MAX - 1] + "…"


def clean_metrics(values: Any) -> dict[str, float]:
    """The values of one call of fednode.log as plain numbers. Raises ValueError or TypeError for what is none."""
    if len(values) > METRIC_KEYS_MAX:
        raise ValueError(f"{len(values)} metrics at once are over the limit of {METRIC_KEYS_MAX}")
    return {str(key)[:METRIC_NAME_CHARACTERS_MAX]: float(value) for key, value in values.items()}


@dataclass(slots=True)
class LineCutter:
    """Cuts a stream of bytes into lines. Of a line without end only the beginning is kept."""

    _rest: bytes = b""
    _skipping: bool = False

    def feed(self, data: bytes) -> list[str]:
        *whole, rest = (self._rest + data).split(b"\n")
        if self._skipping and whole:
            del whole[0]
            self._skipping = False
        if self._skipping:
            rest = b""
        elif len(rest) > 4 * LINE_CHARACTERS_MAX:  # of at most four bytes each
            whole.append(rest)
            rest, self._skipping = b"", True
        self._rest = rest
        return [line.decode("utf-8", errors="replace").rstrip("\r") for line in whole]

    def skip(self, data: bytes) -> int:
        """Pass `data` over unread. Gives how many lines ended in it."""
        ended = data.count(b"\n")
        self._rest, self._skipping = b"", not data.endswith(b"\n")
        return ended

    def end(self) -> list[str]:
        """What stands after the last line's end."""
        rest, self._rest = self._rest, b""
        return [rest.decode("utf-8", errors="replace")] if rest else []


class ReadingSpeed:
    """Holds a reader down to `bytes_per_s`, after as much at once. Times in seconds come in from outside."""

    def __init__(self, bytes_per_s: int, now: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._credit, self._at = float(bytes_per_s), now

    def pause_s(self, size: int, now: float) -> float:
        """How many seconds to wait before the next read, after one of `size` bytes."""
        self._credit = min(self._bytes_per_s, self._credit + (now - self._at) * self._bytes_per_s) - size
        self._at = now
        return max(0.0, -self._credit / self._bytes_per_s)
