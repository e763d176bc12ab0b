"""Running trio so that the same seed gives the same order of everything, in virtual time.

trio shuffles its run queue from a generator of its own; it has a switch, private but there for this purpose, that lets
it be seeded. Nothing here may enter a thread: the clock would jump an hour before the thread's answer came.
"""

import gc
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio
import trio.testing

T = TypeVar("T")

# A simulation makes objects by the million and few circles of them. With Python's own thresholds, looking for those
# takes a third of the time at 300 nodes, and more the more there are.
_GARBAGE_THRESHOLDS = (1_000_000, 100, 1000)


def run_deterministically(seed: int, main: Callable[[], Awaitable[T]]) -> T:
    """`trio.run(main)` under a virtual clock that jumps over every wait, scheduled by `seed`."""
    from trio._core import _run  # the one place for trio's private switch

    internals: Any = _run
    before = internals._ALLOW_DETERMINISTIC_SCHEDULING
    internals._ALLOW_DETERMINISTIC_SCHEDULING = True
    internals._r.seed(seed)
    thresholds = gc.get_threshold()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    try:
        return trio.run(main, clock=_clock())
    finally:
        gc.set_threshold(*thresholds)
        internals._ALLOW_DETERMINISTIC_SCHEDULING = before


def _clock() -> trio.testing.MockClock:
    """A clock that stands still but for its jumps, so it need not ask the real one what time it is."""
    clock: Any = trio.testing.MockClock(autojump_threshold=0)
    clock.current_time = lambda: clock._virtual_base
    return clock  # type: ignore[no-any-return]


async def until(condition: Callable[[], bool], every_s: float = 0.1) -> None:
    """Let virtual time pass until `condition` holds, looking every so many of its seconds."""
    while not condition():
        await trio.sleep(every_s)
