"""What a worker says, held within bounds: a task that prints gigabytes must neither fill the record nor busy the node.

Lines and metrics beyond a burst and a steady rate are left out and counted. Of what is printed in a flood only the line
ends are counted, which costs next to nothing, so the task is not held up; whoever prints faster still is slowed down.
"""

from collections.abc import Callable
from dataclasses import dataclass

from node.seams import TaskOutput

LINE_CHARACTERS_MAX = 2000  # a screenful; what is longer is data, not a message
RECORD_CHARACTERS_MAX = 8000  # of a log record, which may have many lines: a traceback through libraries
LINES_BURST = 1000  # a traceback or a model's summary passes whole …
LINES_PER_S = 20.0  # … and what goes on and on comes down to what a person could still read
METRICS_BURST = 10_000  # single values: some hundred steps of a round logged at once …
METRICS_PER_S = 200.0  # … at this rate for a whole day 17 million rows, which the store bears
ARTIFACTS_BURST = 200  # a folder of figures at once …
ARTIFACTS_PER_S = 1.0  # … and each takes the disk some ten milliseconds
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
        self._rows = Bucket(METRICS_BURST, METRICS_PER_S, now)  # parameters and spans are rows of the record as well
        self._artifacts = Bucket(ARTIFACTS_BURST, ARTIFACTS_PER_S, now)
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
            text = cut_record(line) if kind == "log" else cut_line(line)
            self._say(TaskOutput(kind, text=text, level=level, round=self.round))
        self._left_out += len(lines) - allowed

    def leave_out(self, lines: int) -> None:
        """So many lines were not even looked at."""
        self._left_out += lines

    def take(self, output: TaskOutput, now: float) -> bool:
        """Pass `output` on, which is checked. False, and nothing is passed on, where that would be too much.

        An artifact is only counted: taking it in takes time, and is the caller's."""
        match output.kind:
            case "log":
                self.lines("log", [output.text], now, level=output.level)
                return True
            case "artifact":
                rows, bucket = 1, self._artifacts
            case _:
                rows, bucket = max(1, len(output.values), len(output.parameters)), self._rows
        passes = bucket.take(rows, now) == rows  # all of a call's, or none
        if not passes:
            self._left_out += 1
        elif output.kind != "artifact":
            self._say(output)
        return passes

    def settle(self) -> None:
        """Say how much was left out, if anything was."""
        if self._left_out:
            kept = f"{LINES_PER_S:g} lines and {METRICS_PER_S:g} metrics a second are kept"
            text = f"{self._left_out} lines or metrics were left out: the task says too much; {kept}"
            self._say(TaskOutput("log", text=text, level="WARNING", round=self.round))
        self._left_out = 0


def cut_line(line: str) -> str:
    return line if len(line) <= LINE_CHARACTERS_MAX else line[: LINE_CHARACTERS_MAX - 1] + "…"


def cut_record(text: str) -> str:
    """A log record cut in its middle: a traceback's end names the culprit."""
    if len(text) <= RECORD_CHARACTERS_MAX:
        return text
    half = RECORD_CHARACTERS_MAX // 2
    return f"{text[: half - 3]}\n…\n{text[-half:]}"


@dataclass(slots=True)
class LineCutter:
    """Cuts a stream of bytes into lines. Of a line without end only the beginning is kept."""

    _rest: bytes = b""
    _skipping: bool = False

    @property
    def is_unfinished(self) -> bool:
        """Whether a line has begun that has not ended."""
        return bool(self._rest)

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
        self._rest = rest if rest.endswith(b"\r") else rest.rpartition(b"\r")[2]
        return [_as_shown(line) for line in whole]

    def skip(self, data: bytes) -> int:
        """Pass `data` over unread. Gives how many lines ended in it."""
        ended = data.count(b"\n")
        self._rest, self._skipping = b"", not data.endswith(b"\n")
        return ended

    def end(self) -> list[str]:
        """What stands after the last line's end."""
        rest, self._rest = self._rest, b""
        return [_as_shown(rest)] if rest else []


def _as_shown(line: bytes) -> str:
    """What a terminal would show: a progress bar writes over itself."""
    return line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", errors="replace")


class ReadingSpeed:
    """Holds a reader down to `bytes_per_s`, after `burst` at once, or as much as in a second. Times in seconds come in
    from outside."""

    def __init__(self, bytes_per_s: int, now: float, burst: int | None = None) -> None:
        self._bytes_per_s = bytes_per_s
        self._burst = bytes_per_s if burst is None else burst
        self._credit, self._at = float(self._burst), now

    def pause_s(self, size: int, now: float) -> float:
        """How many seconds to wait before the next read, after one of `size` bytes."""
        self._credit = min(self._burst, self._credit + (now - self._at) * self._bytes_per_s) - size
        self._at = now
        return max(0.0, -self._credit / self._bytes_per_s)
