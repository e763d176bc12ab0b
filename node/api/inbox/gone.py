"""Who is out of a group since we came in, as items of the inbox: removed, gone, put out, or a node revoked.

Pure: a group's log and its state in, items out. Nothing here is for an answer; it is read and put away.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from node.membership.operation_words import Names, names_of
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import MemberAdmit, MemberLeave, MemberRemove, NodeRevoke
from protocol.group.operations import OpenOperation
from protocol.group.state import GroupState
from protocol.keys import Hash, NodeId
from tracker.queries.inbox import LOOK_BACK_S, Json, item
from tracker.tables.rows import iso

GONE_OF_A_GROUP_MAX = 10  # one by one; where more go at a time, the group's history says who
USED_UP = "used-up"  # the rule that voids the admissions which an invitation has no room for

How = Literal["removed", "left", "put-out", "revoked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """`who`: a member, or of `revoked` a node of `member`. `at`: as its author claims, seconds. `is_ours`: it is our
    member, or a node of it; `is_us`: it is this node."""

    how: How
    operation: Hash
    who: str
    member: str = ""
    by: str
    reason: str = ""
    at: float
    is_ours: bool = False
    is_us: bool = False


def gone(log: GroupLog, state: GroupState, me: NodeId) -> list[Gone]:
    """Who went since we came in, in the log's order. To come later is to stand later, or to say so."""
    names, ours = names_of(log), our_entry(log, state, me)
    if ours is None:
        return []
    place_of_ours, at_of_ours = ours
    return [
        each
        for place, operation in enumerate(log)
        if place > place_of_ours or operation.body.claimed_at > at_of_ours
        for each in _gone_by(operation, state, names, me)
    ]


def our_entry(log: GroupLog, state: GroupState, me: NodeId) -> tuple[int, float] | None:
    """Where in the log we came in, and when."""
    for place, operation in enumerate(log):
        certificate = operation.certificate
        if certificate is not None and certificate.node_id == me and operation.hash not in state.refused:
            return place, float(operation.body.claimed_at)
    return None


def _gone_by(operation: OpenOperation, state: GroupState, names: Names, me: NodeId) -> Iterator[Gone]:
    payload, by, at = operation.payload, names.of(operation.author), float(operation.body.claimed_at)
    code, mine = state.refused.get(operation.hash), names.owners.get(me, "")
    match payload:
        case MemberRemove(member=member, reason=reason) if code is None:
            who, ours = names.member(member), member == mine
            yield Gone(how="removed", operation=operation.hash, who=who, by=by, reason=reason, at=at, is_ours=ours)
        case MemberLeave() if code is None:
            yield Gone(how="left", operation=operation.hash, who=by, by=by, at=at)
        case MemberAdmit() if code == USED_UP and operation.certificate is not None:
            certificate = operation.certificate
            if certificate.member_id not in state.members:
                ours = certificate.node_id == me
                yield Gone(
                    how="put-out", operation=operation.hash, who=certificate.member_name, by=by, at=at, is_ours=ours
                )
        case NodeRevoke() if code is None and operation.revocation is not None:
            body = operation.revocation
            yield Gone(
                how="revoked",
                operation=operation.hash,
                who=names.node(body.node_id),
                member=names.member(body.member_id),
                by=names.node(operation.author),
                at=at,
                is_ours=body.member_id == mine,
                is_us=body.node_id == me,
            )


def gone_items(found: Iterable[Gone], group_id: str, group: str, now: float) -> list[Json]:
    """One item for each of the newest, and one for the rest. `now`: what is long past is left out."""
    lately = sorted((each for each in found if each.at > now - LOOK_BACK_S), key=lambda each: each.at, reverse=True)
    items = [_item(each, group_id, group) for each in lately[:GONE_OF_A_GROUP_MAX]]
    if more := lately[GONE_OF_A_GROUP_MAX:]:
        title, text = f"{len(more)} more are out of {group}", "The group's history says who, by whom, and why."
        newest = iso(more[0].at)
        items.append(
            item("gone", group_id, len(more), time=newest, title=title, text=text, group=group_id, actions=("group",))
        )
    return items


def _item(each: Gone, group_id: str, group: str) -> Json:
    title, text = _words(each, group)
    return item(
        "revoked" if each.how == "revoked" else "gone",
        *(group_id, each.operation),
        time=iso(each.at),
        title=title,
        text=text,
        group=group_id,
        actions=("group",),
    )


def _words(each: Gone, group: str) -> tuple[str, str]:
    because = f": {each.reason}" if each.reason else ""
    match each.how:
        case "removed" if each.is_ours:
            back = "Your nodes are cut off from it. You come back only by a new invitation."
            return f"You were removed from {group}", f"{each.by} has removed you{because}. {back}"
        case "removed":
            cut = "Its nodes are cut off, and the group's messages get a new key."
            return f"{each.who} was removed from {group}", f"{each.by} has removed {each.who}{because}. {cut}"
        case "left":
            gone = "All its nodes are out, and the group's messages get a new key."
            return f"{each.who} has left {group}", f"{each.who} has left by itself. {gone}"
        case "put-out":
            why = (
                f"{each.by} let {each.who} in while others elsewhere let somebody in by the same invitation, which did "
                "not have room for all. Who came first has stayed, and the group's messages get a new key."
            )
            todo = f"If {each.who} belongs to {group}, an admin can send a new invitation."
            return f"{each.who} is out of {group}: its invitation was used twice", f"{why} {todo}"
    if each.is_us:
        todo = "Its runs and its record stay as they are. Set it up anew with a new home and a new device token."
        return (
            f"This node was revoked in {group}",
            f"{each.by}, a node of its own member, has put it out for good. {todo}",
        )
    told = "It is out for good, and the group's messages get a new key."
    if each.is_ours:
        doubt = "If it was none of you, somebody has your member's key: have an admin remove you, and join anew."
        return f"Your node {each.who} was revoked in {group}", f"{each.by} has put it out. {told} {doubt}"
    return (
        f"{each.who}, a node of {each.member}, was revoked",
        f"{each.member} has put its own node out of {group}. {told}",
    )
