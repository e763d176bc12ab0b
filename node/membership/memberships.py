"""What people do about who is in a group, and the group's signed history in words.

Whoever is put out hears of it (`node.membership.groups`); what follows for this node's own runs when that is us is
here.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from node.api.service.service import Json, NotFound
from node.membership.group_place import GroupPlace
from node.membership.members_meant import NoSuchMember, member_meant
from node.membership.operation_words import Names, author_names, in_words, names_of, why_void
from node.membership.own_nodes import OwnNodes
from node.names import PREFIX_CHARACTERS_MIN
from protocol.errors import FednodeError, Refused
from protocol.fields import as_text
from protocol.group.operation_kinds import InviteRevoke, MemberLeave, MemberRemove, MemberRole
from protocol.group.operations import OpenOperation
from protocol.group.state import GroupState, InvitationEntry
from protocol.group.why_out import why_in_vain
from protocol.keys import GroupId, Hash, MemberId
from protocol.times import date_text
from tracker.tables.rows import iso

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
        member_id = _member_named(place, member)
        operation = await self._node.groups.say(place, MemberRemove(member=member_id, reason=as_text(reason)))
        return self._done(place, operation)

    async def change_role(self, group: str, member: str, role: str) -> Json:
        place = self._in(group)
        member_id = _member_named(place, member)
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
        check_in(place)
        return place

    def _done(self, place: GroupPlace, operation: OpenOperation) -> Json:
        names, state = names_of(place.log), place.state()
        return {"group_id": place.group, "group": state.name} | _operation_view(place, state, names, operation)


def check_in(place: GroupPlace) -> None:
    """Raises Refused, with who put us out, when and why, where this node is out of the group."""
    if place.out() is not None or place.revoked() is not None:
        raise Refused("out", out_text(place), remedy=out_remedy(place))


def out_remedy(place: GroupPlace) -> str:
    """What the owner of a node does that is out of the group, or that a member's entrance says is."""
    former, name = place.out(), place.state().name
    if former is None and place.revoked() is not None:
        return "begin with a new home on this machine, and link it again: fednode link on another node of yours"
    if former is not None and not place.state().members:
        return "nothing: the group ended with its last member; fednode group create NAME begins another"
    if former is not None and not former.removed and not former.void:
        return f"nothing, or ask an admin of {name} for a new invitation, then fednode join TOKEN"
    return f"ask an admin of {name} for a new invitation, then fednode join TOKEN"


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


def turned_away_text(place: GroupPlace) -> str:
    """What a member's entrance says of us while our own log has us in, and who; "" where nobody does."""
    if not place.turned_away:
        return ""
    nodes = place.state().nodes
    who = next(nodes[peer].name for peer, why in place.shut_at.items() if why == place.turned_away and peer in nodes)
    return f"{who} does not let this node in any more: {place.turned_away}"


def out_view(place: GroupPlace) -> Json | None:
    """How this node came to be out of the group, or None while it is in."""
    former, revoked = place.out(), place.revoked()
    if former is None and revoked is not None:
        facts = {"removed": True, "by": names_of(place.log).of(revoked.by), "at": iso(revoked.at), "reason": ""}
        return {**facts, "how": "revoked", "text": out_text(place), "remedy": out_remedy(place)}
    if former is None:
        return None
    by = names_of(place.log).of(former.by)
    return {
        "removed": former.removed,
        "by": by,
        "at": iso(former.at),
        "reason": former.reason,
        "how": "void" if former.void else "removed" if former.removed else "left",
        "text": out_text(place),
        "remedy": out_remedy(place),
    }


def former_views(place: GroupPlace) -> list[Json]:
    """Who is out of the group, as docs/api.md has it."""
    if not place.state().former:  # for most: their names cost a walk through the log
        return []
    names = names_of(place.log)
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
    ]


def revoked_views(place: GroupPlace) -> list[Json]:
    """The nodes that are out for good while their member goes on, as docs/api.md has it."""
    if not place.state().revoked:  # for most: their names cost a walk through the log
        return []
    names = names_of(place.log)
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


def member_views(place: GroupPlace) -> list[Json]:
    """Who is in the group, as docs/api.md has it."""
    state, names = place.state(), names_of(place.log)
    return [
        {
            "member_id": member_id,
            "name": member.name,
            "role": member.role,
            "organisation": member.organisation,
            "contact": member.contact,
            "admitted_at": iso(member.admitted_at),
            "admitted_by": names.of(member.by),
            "nodes": [{"node_id": node_id, "name": state.nodes[node_id].name} for node_id in member.nodes],
        }
        for member_id, member in state.members.items()
    ]


def _member_named(place: GroupPlace, name: str) -> MemberId:
    try:
        return MemberId(member_meant(place.state().name, member_views(place), name)["member_id"])
    except NoSuchMember as none:
        raise NotFound(none.code, none.what, remedy=none.remedy) from None


def _invitation_named(state: GroupState, name: str) -> Hash:
    found = [invite_id for invite_id in state.invitations if invite_id == name or invite_id.startswith(name)]
    if len(found) != 1 or len(name) < PREFIX_CHARACTERS_MIN:
        raise NotFound(
            "no-such-invitation",
            f"{state.name} has no invitation {name!r}",
            remedy="see fednode group invitations for those that are out",
        )
    return found[0]
