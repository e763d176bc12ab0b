"""What people do about who is in a group, and the group's signed history in words.

Whoever is put out hears of it (`node.groups`); what follows for this node's own runs when that is us, is here.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from node.group_place import GroupPlace
from node.names import PREFIX_CHARACTERS_MIN
from node.operation_words import Names, author_names, in_words, names_of, why_void
from node.own_nodes import OwnNodes
from node.service import Json, NotFound
from protocol.errors import FednodeError, Refused
from protocol.fields import as_text
from protocol.group_state import GroupState, InvitationEntry
from protocol.keys import GroupId, Hash, MemberId
from protocol.operation_kinds import InviteRevoke, MemberLeave, MemberRemove, MemberRole
from protocol.operations import OpenOperation
from protocol.times import date_text
from protocol.why_out import why_in_vain
from tracker.rows import iso

if TYPE_CHECKING:
    from node.node import Node

log = logging.getLogger("fednode.groups")

PlaceOf = Callable[[str | None], GroupPlace]


class Memberships:
    """One node's. `place_of` finds a group by what people call it; it raises NotFound."""

    def __init__(self, node: "Node", place_of: PlaceOf) -> None:
        self._node = node
        self._place_of = place_of
        self.own_nodes = OwnNodes(node)
        self._told: dict[GroupId, Hash] = {}  # the removals, or departures, of ourselves that the owner was told of

    async def remove(self, group: str, member: str, reason: str) -> Json:
        place = self._in(group)
        member_id = _member_named(place.state(), member)
        operation = await self._node.groups.say(place, MemberRemove(member=member_id, reason=as_text(reason)))
        return self._done(place, operation)

    async def change_role(self, group: str, member: str, role: str) -> Json:
        place = self._in(group)
        member_id = _member_named(place.state(), member)
        if place.state().members[member_id].role == role:
            raise Refused("no-change", f"{member} has the role {role} already", remedy="nothing to do")
        payload = MemberRole(member=member_id, role=role)  # type: ignore[arg-type]
        return self._done(place, await self._node.groups.say(place, payload))

    async def leave(self, group: str) -> Json:
        place = self._in(group)
        return self._done(place, await self._node.groups.say(place, MemberLeave()))

    async def revoke(self, group: str, invitation: str) -> Json:
        place = self._in(group)
        invite_id = _invitation_named(place.state(), invitation)
        if place.state().invitations[invite_id].revoked:
            raise Refused("no-change", f"The invitation {invitation} is revoked already", remedy="nothing to do")
        return self._done(place, await self._node.groups.say(place, InviteRevoke(invite_id=invite_id)))

    async def history(self, group: str, before: str | None, limit: int) -> Json:
        """The newest `limit` operations in canonical order, newest first; or those before the operation `before`."""
        place = self._place_of(group)
        operations = list(place.log)
        end = len(operations)
        if before is not None:
            found = [index for index, operation in enumerate(operations) if operation.hash.startswith(before)]
            if len(before) < PREFIX_CHARACTERS_MIN or len(found) != 1:
                raise NotFound(
                    "no-such-operation", f"The log has no operation {before}", remedy="see fednode group log"
                )
            end = found[0]
        begin = max(0, end - limit)
        names, state = names_of(place.log), place.state()
        views = [_operation_view(place, state, names, operation) for operation in reversed(operations[begin:end])]
        return {
            "operations": views,
            "previous": operations[begin].hash if begin else None,
            "total": len(operations),
        }

    async def look(self, place: GroupPlace) -> None:
        """The group's log has grown: if we are out by that, tell the owner, and end our part in the group's runs, which
        go on without us."""
        ruling = place.out() or place.revoked()
        if ruling is None or self._told.get(place.group) == ruling.operation:
            return
        self._told[place.group] = ruling.operation
        text = out_text(place)
        log.warning("%s", text)
        self._node.hub.publish({"type": "note", "text": text})
        for known in list(self._node.runs.known.values()):
            if known.place is not place or known.is_over or known.decision.decision == "declined":
                continue
            try:
                await self._node.runs.answers.decline(known, as_text(text))
            except FednodeError as error:
                log.error("our part in run %s could not be ended: %s", known.name, error)
            if known.watch is not None:
                known.watch.over.set()

    def _in(self, group: str) -> GroupPlace:
        place = self._place_of(group)
        if place.out() is not None:
            raise Refused("out", out_text(place), remedy="ask an admin of the group for a new invitation")
        if place.revoked() is not None:
            raise Refused("out", out_text(place), remedy="set this machine up anew, and link it again: fednode link")
        return place

    def _done(self, place: GroupPlace, operation: OpenOperation) -> Json:
        names, state = names_of(place.log), place.state()
        return {"group_id": place.group, "group": state.name} | _operation_view(place, state, names, operation)


def out_text(place: GroupPlace) -> str:
    """Why this node is out of the group, as a sentence."""
    former, revoked, name = place.out(), place.revoked(), place.state().name
    if former is None:
        assert revoked is not None
        by = names_of(place.log).node(revoked.by)
        return f"This node was revoked in {name} by its own member's node {by} on {date_text(revoked.at)}"
    if former.void:
        by = names_of(place.log).of(former.by)
        when = date_text(former.at)
        return f"This node's member was let into {name} by {by} on {when}, but {why_in_vain(former)}"
    if not former.removed:
        return f"This node's member left {name} on {date_text(former.at)}"
    why = f": {former.reason}" if former.reason else ""
    by = names_of(place.log).of(former.by)
    return f"This node's member was removed from {name} by {by} on {date_text(former.at)}{why}"


def out_view(place: GroupPlace) -> Json | None:
    """How this node came to be out of the group, or None while it is in."""
    former, revoked = place.out(), place.revoked()
    if former is None and revoked is not None:
        facts = {"removed": True, "by": names_of(place.log).of(revoked.by), "at": iso(revoked.at), "reason": ""}
        return {**facts, "text": out_text(place)}
    if former is None:
        return None
    by = names_of(place.log).of(former.by)
    return {
        "removed": former.removed,
        "by": by,
        "at": iso(former.at),
        "reason": former.reason,
        "text": out_text(place),
    }


def former_views(place: GroupPlace) -> list[Json]:
    """Who is out of the group, as docs/api.md has it."""
    names = names_of(place.log) if place.state().former else None
    return [
        {
            "member_id": member_id,
            "name": former.was.name,
            "role": former.was.role,
            "removed": former.removed or bool(former.void),
            "by": names.of(former.by),
            "at": iso(former.at),
            "reason": why_in_vain(former) if former.void else former.reason,
        }
        for member_id, former in place.state().former.items()
        if names is not None
    ]


def revoked_views(place: GroupPlace) -> list[Json]:
    """The nodes that are out for good while their member goes on, as docs/api.md has it."""
    names = names_of(place.log) if place.state().revoked else None
    return [
        {
            "node_id": node_id,
            "name": revoked.was.name,
            "member_id": revoked.was.member_id,
            "member": names.member(revoked.was.member_id),
            "by": names.node(revoked.by),
            "at": iso(revoked.at),
        }
        for node_id, revoked in place.state().revoked.items()
        if names is not None
    ]


def invitation_state(entry: InvitationEntry, now: float) -> str:
    if entry.revoked:
        return "revoked"
    if entry.used >= entry.uses:
        return "used up"
    return "expired" if now > entry.expires_at else "open"


def _operation_view(place: GroupPlace, state: GroupState, names: Names, operation: OpenOperation) -> Json:
    node, member = author_names(names, operation.author)
    why = why_void(state, operation)
    return {
        "hash": operation.hash,
        "kind": operation.body.kind,
        "claimed_at": iso(operation.body.claimed_at),
        "by_node": operation.author,
        "by_name": node,
        "by_member": member,
        "text": in_words(place.log, names, operation),
        "counts": not why,
        "why": why,
        "parents": list(operation.body.parents),
        "previous": operation.body.previous,
        "bytes": len(operation.raw),
    }


def _member_named(state: GroupState, name: str) -> MemberId:
    """The member by its name, its id or the beginning of that, or one of its nodes' names. Raises NotFound, Refused."""
    if name in state.members:
        return MemberId(name)
    found = [member_id for member_id, member in state.members.items() if member.name == name]
    if not found:
        found = list({entry.member_id for node, entry in state.nodes.items() if name in (node, entry.name)})
    if not found and len(name) >= PREFIX_CHARACTERS_MIN:
        found = [member_id for member_id in state.members if member_id.startswith(name)]
    if len(found) > 1:
        raise Refused("ambiguous", f"{len(found)} members are called {name!r}", remedy="give the member's id")
    if not found:
        names = ", ".join(member.name for member in state.members.values())
        raise NotFound("no-such-member", f"{state.name} has no member {name!r}; it has: {names}", remedy="name one")
    return found[0]


def _invitation_named(state: GroupState, name: str) -> Hash:
    found = [invite_id for invite_id in state.invitations if invite_id == name or invite_id.startswith(name)]
    if len(found) != 1 or len(name) < PREFIX_CHARACTERS_MIN:
        raise NotFound(
            "no-such-invitation",
            f"{state.name} has no invitation {name!r}",
            remedy="see fednode group invitations for those that are out",
        )
    return found[0]
