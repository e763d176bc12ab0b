"""When this node announces itself to its groups: now and then, and soon when it is new or back."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from random import Random

import trio

from node.membership.group_place import GroupPlace
from protocol.errors import FednodeError
from protocol.group.presence import interval_s
from protocol.keys import GroupId

log = logging.getLogger("fednode.groups")

# Shares of the usual interval: how soon a node announces itself that is new or back, and what lies at least between two
# announcements. 0.3 to 6 s, and 6 s, in a small group; a large one that was started all at once takes its time, so that
# nobody is flooded with what all have to say.
_HURRY_SHARES = (0.005, 0.1)
_ANNOUNCE_GAP_SHARE = 0.1


class Announcements:
    """Of the groups in `places`. `announce` tells one of them; `save` is called each time, to remember addresses."""

    def __init__(
        self,
        places: Mapping[GroupId, GroupPlace],
        random: Random,
        *,
        announce: Callable[[GroupPlace], Awaitable[None]],
        save: Callable[[], Awaitable[None]],
    ) -> None:
        self._places = places
        self._random = random
        self._announce = announce
        self._save = save
        self._now = trio.Event()

    def hurry(self) -> None:
        """Do not wait for the next time."""
        self._now.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            nodes = max((len(place.state().nodes) for place in self._places.values()), default=1)
            # Jitter keeps a group that was started by one script from announcing in one breath.
            with trio.move_on_after(interval_s(nodes) * (0.9 + 0.2 * self._random.random())):
                await self._now.wait()
                first, last = _HURRY_SHARES
                await trio.sleep(interval_s(nodes) * (first + (last - first) * self._random.random()))
            self._now = trio.Event()
            for place in [place for place in self._places.values() if place.out() is None]:
                await self._announce(place)
            try:
                await self._save()
            except FednodeError as error:
                log.error("addresses of other nodes are not remembered: %s", error)
            await trio.sleep(interval_s(nodes) * _ANNOUNCE_GAP_SHARE)
