"""Bears witness to what was decided about admins and nodes, so that it becomes final also in a group that is quiet.

Whether a group asks its log alone says; here it is decided when this node answers. Rules: docs/protocol.md §3.43 to
§3.45.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from random import Random

import trio

from node.home.identity import Identity
from node.membership.group_place import GroupPlace
from protocol.errors import FednodeError, Refused
from protocol.group.operation_kinds import Payload, RulingWitness
from protocol.keys import GroupId
from protocol.limits import WITNESS_GAP_S
from protocol.run.voters import lot

log = logging.getLogger("fednode.groups")

# After the news has come: long enough that most have it, and that those who are asked do not all write in one breath.
WITNESS_WAIT_S = 5.0
WITNESS_SPREAD_S = 20.0
RANK_STEP_S = 30.0  # how much longer each further node of a member waits for what the one before it says

Say = Callable[[GroupPlace, Payload], Awaitable[object]]


class Witness:
    """One node's. Call `look` whenever a group's log has grown; start `run` in a nursery."""

    def __init__(self, identity: Identity, places: Mapping[GroupId, GroupPlace], *, say: Say, random: Random) -> None:
        self._identity = identity
        self._places = places
        self._say = say
        self._random = random
        self._due: dict[GroupId, float] = {}  # when we are to answer, by trio's clock
        self._last: dict[GroupId, float] = {}  # when we did
        self._changed = trio.Event()

    def look(self, place: GroupPlace) -> None:
        """The group's log has grown: perhaps it asks us, or does not any more."""
        if self._is_asked(place) != (place.group in self._due):
            self._changed.set()

    async def run(self) -> None:
        """Answer where it is our turn, until cancelled."""
        while True:
            for place in list(self._places.values()):
                self._schedule(place)
                if self._due.get(place.group, float("inf")) <= trio.current_time():
                    await self._answer(place)
            with trio.move_on_at(min(self._due.values(), default=float("inf"))):
                await self._changed.wait()
            self._changed = trio.Event()

    def _is_asked(self, place: GroupPlace) -> bool:
        me = self._identity.node_id
        return me in place.state().nodes and place.log.asks(me)  # of a group for which we are too old we know no nodes

    def _schedule(self, place: GroupPlace) -> None:
        if not self._is_asked(place):
            self._due.pop(place.group, None)
        elif place.group not in self._due:
            state, me = place.state(), self._identity.node_id
            ours = state.members[state.nodes[me].member_id].nodes
            rank = sorted(ours, key=lambda node: lot(place.group, node)).index(me)
            wait = WITNESS_WAIT_S + rank * RANK_STEP_S + WITNESS_SPREAD_S * self._random.random()
            earliest = self._last.get(place.group, float("-inf")) + WITNESS_GAP_S
            self._due[place.group] = max(trio.current_time() + wait, earliest)

    async def _answer(self, place: GroupPlace) -> None:
        self._last[place.group] = trio.current_time()
        del self._due[place.group]
        try:
            await self._say(place, RulingWitness())
        except Refused as refused:  # the group has changed meanwhile
            log.debug("nothing to bear witness to in %s: %s", place.group[:12], refused.what)
        except FednodeError as error:
            log.error("could not bear witness in %s yet: %s", place.group[:12], error)
            self._changed.set()
