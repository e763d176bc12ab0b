"""Trying several addresses of one peer: the next begins when the last has failed or takes long, and the first wins.
So are peers of whom any may have what is wanted.

A machine has addresses that lead nowhere from here, and some swallow packets without a word: waiting each out would
take all the time there is, and dialling all at once would knock at a peer's door from everywhere.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import trio

K = TypeVar("K")
T = TypeVar("T")

# What RFC 8305 recommends between two attempts; a handshake across a continent takes about as long.
STAGGER_S = 0.25


class Race(Generic[K, T]):
    """One search for a peer, or of whoever has something.

    Args:
        dial: a way to the peer by one address. It cleans up after itself when cancelled.
        discard: what to do with a way that was found a moment after the first.
        is_final: whether an error makes trying other addresses pointless.
        stagger_s: how long one may take before the next begins beside it.
        at_once: so many are tried at the same time, at most.
    """

    def __init__(
        self,
        dial: Callable[[K], Awaitable[T]],
        discard: Callable[[T], None],
        is_final: Callable[[Exception], bool],
        *,
        stagger_s: float = STAGGER_S,
        at_once: float = math.inf,
    ) -> None:
        self._dial = dial
        self._discard = discard
        self._is_final = is_final
        self._stagger_s = stagger_s
        self._places = trio.CapacityLimiter(at_once)
        self.found: tuple[K, T] | None = None
        self.failures: dict[K, Exception] = {}
        self.final: Exception | None = None

    async def run(self, addresses: Sequence[K]) -> None:
        """Until `found` is there, or `final`, or all have failed. Set a deadline around it."""
        async with trio.open_nursery() as nursery:
            for address in addresses:
                ended = trio.Event()
                await self._places.acquire_on_behalf_of(ended)
                nursery.start_soon(self._try, address, ended, nursery.cancel_scope)
                with trio.move_on_after(self._stagger_s):
                    await ended.wait()

    async def _try(self, address: K, ended: trio.Event, race: trio.CancelScope) -> None:
        try:
            found = await self._dial(address)
        except Exception as error:  # noqa: BLE001 - a stranger's answer raises anything in the library
            self.failures[address] = error
            if self._is_final(error):
                self.final = error
                race.cancel()
        else:
            if self.found is None:
                self.found = address, found
                race.cancel()
            else:
                self._discard(found)
        finally:
            self._places.release_on_behalf_of(ended)
            ended.set()
