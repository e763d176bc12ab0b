"""A run's timers: each rings once, at the time that was set last."""

import math
from collections.abc import Awaitable, Callable

import trio


class Timers:
    """By name. Most are put off again and again and never ring, so that costs next to nothing."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}  # when each rings, by trio's clock
        self._sleep = trio.CancelScope()  # until the first of them

    def set(self, name: str, after_s: float) -> None:
        """Ring in so many seconds, in place of what was set before."""
        self._due[name] = at = trio.current_time() + after_s
        if at < self._sleep.deadline:
            self._sleep.deadline = at

    async def ring(self, rings: Callable[[str], Awaitable[None]]) -> None:
        """Have each ring when it is due, until cancelled."""
        while True:
            now = trio.current_time()
            for name in [name for name, at in self._due.items() if at <= now]:
                if self._due[name] <= now:  # it may have been put off while the one before rang
                    del self._due[name]
                    await rings(name)
            with trio.CancelScope(deadline=min(self._due.values(), default=math.inf)) as self._sleep:
                await trio.sleep_forever()
