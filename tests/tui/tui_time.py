"""An event loop in which waiting costs nothing: while every task waits for a time, the next of those times is now.

Textual's pilot waits at least 20 ms after every key, to see whether the app is idle. In a hurried loop these pass at
once, and so does every other timer, in its order. Work takes no time there, so that a slow machine changes nothing and
misses no deadline. Only while something outside the loop is under way, a thread, a socket or a pipe, do its timers wait
as long as anywhere else.
"""

import asyncio
import selectors
import time
from contextlib import contextmanager
from unittest.mock import patch

from textual import _time, _wait


class _Selector(selectors.DefaultSelector):
    """Asks its loop before it waits for a timer."""

    loop = None

    def select(self, timeout=None):
        if timeout is None or timeout <= 0 or not self.loop.is_hurried:
            return super().select(timeout)
        if found := super().select(0):
            return found
        if self.loop.waits_for_outside():
            began = time.monotonic()
            found = super().select(timeout)
            self.loop.pass_time(time.monotonic() - began)
        else:
            self.loop.pass_time(timeout)
        return found


class StageLoop(asyncio.SelectorEventLoop):
    """A loop like any other, but for what is done `hurried`."""

    def __init__(self):
        self.is_hurried = False
        self._now = 0.0  # in a hurry
        self._ahead_s = 0.0  # else
        self._threads = 0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self._own_files = len(selector.get_map())

    def time(self):
        return self._now if self.is_hurried else time.monotonic() + self._ahead_s

    def pass_time(self, seconds):
        self._now += seconds

    def waits_for_outside(self):
        return self._threads > 0 or len(self._selector.get_map()) > self._own_files

    def hurry(self):
        self._now = self.time()
        self.is_hurried = True

    def take_time(self):
        self._ahead_s = self._now - time.monotonic()
        self.is_hurried = False

    def run_in_executor(self, executor, func, *args):
        future = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._leave_thread)
        return future

    def _leave_thread(self, _):
        self._threads -= 1


@contextmanager
def hurried():
    """Within, nothing waits for a time, in a StageLoop. Textual's timers and animations go by the same clock."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, StageLoop):
        yield
        return
    loop.hurry()
    try:
        # Time passes once all work is done, so who has waited for a time needs no look at how busy the process was.
        is_idle = {"monotonic": loop.time, "process_time": lambda: 0.0}
        with patch.object(_time, "get_time", loop.time), patch.multiple(_wait, **is_idle):
            yield
    finally:
        loop.take_time()
