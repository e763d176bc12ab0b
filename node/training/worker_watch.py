"""When a worker is given up: it stopped giving signs of life, gets nowhere, or does not heed an abort.

Time is counted in ticks of the watch, not read from a clock: when the node itself was stopped for an hour, one tick has
passed, and the worker is not blamed.
"""

from dataclasses import dataclass

SILENCE_S = 120.0  # without a sign of life: stopped, or stuck in a library that never lets go
HANG_S = 600.0  # alive, but neither steps nor output nor a second of CPU time: a deadlock
SILENCE_KEY, HANG_KEY = "worker_silence_s", "worker_hang_s"  # what people call two of the limits, in settings.json
LESS_MEMORY = "free memory on this machine, or have the task take less: smaller batches, or a smaller model"
CPU_PROGRESS_S = 1.0  # so much computing is progress; signs of life alone stay far below it


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """All in seconds."""

    beat_s: float = 5.0  # between signs of life, and between looks: soon enough, and too rare to cost anything
    silence_s: float = SILENCE_S
    no_progress_s: float = HANG_S
    abort_s: float = 10.0  # from being told to abort a call to doing so; the default training does at its next step


def watch_limits(silence_s: float, hang_s: float) -> WatchLimits:
    """With signs of life that come often enough for limits which a person has set low."""
    beat_s = min(WatchLimits().beat_s, silence_s / 4, hang_s / 4)
    return WatchLimits(beat_s=beat_s, silence_s=silence_s, no_progress_s=hang_s)


class Watch:
    """Over one worker. Tell it what happens; `tick` says what is wrong, or nothing."""

    def __init__(self, limits: WatchLimits) -> None:
        self._limits = limits
        self._busy = False
        self._aborting: int | None = None
        self._silent_s = self._stalled_s = self._aborting_s = 0.0
        self._ticks, self._cpu_s = 0, 0.0

    def call_begins(self) -> None:
        self._busy = True
        self._silent_s = self._stalled_s = 0.0

    def call_ends(self) -> None:
        self._busy = False

    def aborting(self, call: int) -> None:
        """The worker has been told that nobody waits for `call`, or any before it."""
        self._aborting = call

    def ended(self, call: int) -> None:
        """The worker has come to the end of `call`, one way or the other."""
        self.heard()
        self.progress()
        if self._aborting is not None and call >= self._aborting:
            self._aborting, self._aborting_s = None, 0.0

    def heard(self) -> None:
        """A sign of life."""
        self._silent_s = 0.0

    def progress(self) -> None:
        self._stalled_s = 0.0

    def beat(self, ticks: int, cpu_s: float) -> None:
        """A sign of life with the worker's counts of steps and of CPU seconds."""
        self.heard()
        if ticks != self._ticks or cpu_s >= self._cpu_s + CPU_PROGRESS_S:
            self._ticks, self._cpu_s = ticks, cpu_s
            self.progress()

    def tick(self) -> str:
        """Another `beat_s` has passed. What is wrong, as the end of a sentence about the worker; empty when nothing."""
        limits = self._limits
        if self._aborting is not None:
            self._aborting_s += limits.beat_s
            if self._aborting_s > limits.abort_s:
                return f"did not stop within {limits.abort_s:g} s after its call was given up"
        if self._busy:
            self._silent_s += limits.beat_s
            self._stalled_s += limits.beat_s
            if self._silent_s > limits.silence_s:
                return f"gave no sign of life for {limits.silence_s:g} s, the limit {SILENCE_KEY}"
            if self._stalled_s > limits.no_progress_s:
                return f"hangs: it did nothing for {limits.no_progress_s:g} s, the limit {HANG_KEY}"
        return ""
