"""Why a node is out of a group, in words, for the refusals at a group's entrance and for the node's own owner."""

from protocol.errors import Refused
from protocol.group.state import FormerMember, GroupState
from protocol.keys import NodeId
from protocol.times import date_text

# Of the refusals here: whoever hears one was in the group, or thought so.
OUT_CODES = ("removed", "left", "revoked", "used-up", "admission-void")


def why_out(state: GroupState, node_id: NodeId) -> Refused | None:
    """Who put `node_id` out, when and why, as the refusal of whoever keeps it out; None for a node that never was in,
    and for one that is."""
    if state.admits(node_id):
        return None
    if node_id in state.revoked:
        return why_revoked(state, node_id)
    former = state.former_of(node_id)
    return None if former is None else why_former(state, former)


def why_former(state: GroupState, former: FormerMember) -> Refused:
    """Who put a former member out, when and why; or who let a joiner in whose admission does not count."""
    by = state.nodes.get(former.by)
    if former.void:
        return Refused(
            "used-up" if former.void == "used-up" else "admission-void",
            f"{former.was.name} was let into {state.name} by {by.name if by else former.by} on {date_text(former.at)},"
            f" but {why_in_vain(former)}",
            remedy="ask an admin of the group for a new invitation",
        )
    what = (
        f"was removed from {state.name} by {by.name if by else former.by}" if former.removed else f"left {state.name}"
    )
    why = f": {former.reason}" if former.reason else ""
    return Refused(
        "removed" if former.removed else "left",
        f"{former.was.name} {what} on {date_text(former.at)}{why}",
        remedy="ask an admin of the group for a new invitation",
    )


def why_revoked(state: GroupState, node_id: NodeId) -> Refused:
    """Which node of its member revoked a node, and when."""
    revoked = state.revoked[node_id]
    by = state.nodes.get(revoked.by)
    return Refused(
        "revoked",
        f"Node {revoked.was.name} was revoked in {state.name} by {by.name if by else revoked.by}"
        f" on {date_text(revoked.at)}",
        remedy="set it up anew, with a node key of its own, and link it again",
    )


def why_in_vain(former: FormerMember) -> str:
    """Why the admission of a joiner that was never in does not count, as the second half of a sentence."""
    if former.void == "used-up":
        return "another joiner was admitted first with this invitation; ask for a new one"
    if former.void == "revoked":
        return "the invitation had been revoked meanwhile; ask for a new one"
    if former.void == "group-full":
        return "others who were admitted first had filled the group"
    return "the right to let it in had been taken away meanwhile; ask for a new invitation"
