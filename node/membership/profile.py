"""What this node's member says of itself: name, organisation, contact. Claimed by the member, checked by nobody.

One profile for all nodes of the member and all its groups: of two the one that was set later counts. Whoever sets it
says it in every group; a group that is entered later is told then. Rules: docs/protocol.md §10.
"""

from typing import TYPE_CHECKING

from node.membership.group_place import GroupPlace
from protocol.entrance.siblings import ProfileTold
from protocol.errors import FednodeError, RemoteProtocolError
from protocol.fields import require_name
from protocol.group.operation_kinds import MemberProfile
from protocol.group.operations import OpenOperation
from protocol.identity import open_certificate
from protocol.wire import pack, unpack

if TYPE_CHECKING:
    from node.node import Node

FILE = "profile"
PROFILE_BYTES_MAX = 2048  # three lines of 80 four-byte characters have about 1,000
CLOCKS_APART_S = 3600  # a sibling whose clock is so far ahead must not set what nobody can set anew for years


class Profile:
    """Of this node's member. `told` is None while nobody has set any."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self.told: ProfileTold | None = None

    async def load(self) -> None:
        raw = await self._node.disk.read(FILE)
        if raw is None:
            return
        try:
            self.told = unpack(ProfileTold, raw, PROFILE_BYTES_MAX)
        except RemoteProtocolError as error:
            raise FednodeError(
                f"The file {FILE} in the node's home is damaged ({error.what})",
                remedy="remove it, and say it again: fednode profile",
            ) from error

    @property
    def name(self) -> str:
        """The member's name: what was set, else what the certificate has."""
        return self.told.name if self.told else open_certificate(self._node.identity.certificate).member_name

    def view(self) -> dict[str, str]:
        told = self.told
        return {
            "name": self.name,
            "organisation": told.organisation if told else "",
            "contact": told.contact if told else "",
        }

    async def set(self, *, name: str | None, organisation: str | None, contact: str | None) -> None:
        """Change what is given, here, in every group and on the siblings. Raises Refused for what is no line."""
        given = {"name": name, "organisation": organisation, "contact": contact}
        now = self.view() | {key: value for key, value in given.items() if value is not None}
        require_name(now["name"], "a member")
        for key in ("organisation", "contact"):
            if now[key]:
                require_name(now[key], f"a member's {key}")
        if now == self.view():
            return
        set_at = max(int(self._node.now()), self.told.set_at + 1 if self.told else 0)
        await self._keep(ProfileTold(**now, set_at=set_at))
        own = self._node.siblings
        own.groups.describe_in(own.groups.ours())
        own.spread()

    async def heard(self, told: ProfileTold | None) -> None:
        """A sibling's. Where the last word on us in a group is this node's own, it says the newer one there."""
        if told is None or told.set_at > self._node.now() + CLOCKS_APART_S:
            return
        if self.told is not None and told.set_at <= self.told.set_at:
            return
        await self._keep(told)
        groups = self._node.siblings.groups
        me = self._node.identity.node_id
        stale = [place for place in groups.ours() if (last := self._last_in(place)) and last.author == me]
        groups.describe_in(stale)
        self._node.siblings.spread()

    def entered(self, place: GroupPlace) -> None:
        """This node is new in the group: the group is told, unless it has been told something later."""
        last = self._last_in(place)
        if self.told is not None and (last is None or last.body.claimed_at < self.told.set_at):
            self._node.siblings.groups.describe_in([place])

    def _last_in(self, place: GroupPlace) -> OpenOperation | None:
        """The last profile of our member in the group's log."""
        nodes = self._node.siblings.known.certificates
        found = (each for each in place.log if isinstance(each.payload, MemberProfile) and each.author in nodes)
        return max(found, key=lambda each: each.body.claimed_at, default=None)

    async def _keep(self, told: ProfileTold) -> None:
        await self._node.disk.write(FILE, pack(told))
        self.told = told
