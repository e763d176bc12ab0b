"""Trying several addresses of one peer: the next begins when the last has failed or takes long, and the first wins.

A machine has addresses that lead nowhere from here, and some swallow packets without a word: waiting each out would
take all the time there is, and dialling all at once would knock at a peer's door from everywhere.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import trio

T = TypeVar("T")

# What RFC 8305 recommends between two attempts; a handshake across a continent takes about as long.
STAGGER_S = 0.25


class Race(Generic[T]):
    """One search for a peer.

    Args:
        dial: a way to the peer by one address. It cleans up after itself when cancelled.
        discard: what to do with a way that was found a moment after the first.
        is_final: whether an error makes trying other addresses pointless.
    """

    def __init__(
        self,
        dial: Callable[[str], Awaitable[T]],
        discard: Callable[[T], None],
        is_final: Callable[[Exception], bool],
    ) -> None:
        self._dial = dial
        self._discard = discard
        self._is_final = is_final
        self.found: tuple[str, T] | None = None
        self.failures: dict[str, Exception] = {}
        self.final: Exception | None = None

    async def run(self, addresses: Sequence[str]) -> None:
        """Until `found` is there, or `final`, or all have failed. Set a deadline around it."""
        async with trio.open_nursery() as nursery:
            for address in addresses:
                ended = trio.Event()
                nursery.start_soon(self._try, address, ended, nursery.cancel_scope)
                with trio.move_on_after(STAGGER_S):
                    await ended.wait()

    async def _try(self, address: str, ended: trio.Event, race: trio.CancelScope) -> None:
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
            ended.set()
