"""What the tables about a group say: its members, its invitations, and what was signed in it."""

from datetime import datetime

from tui.drawing.grid import Cell, Column, ListRows, Row
from tui.drawing.words import date_text
from tui.facts.history import History, Signed
from tui.facts.nodes import Group, Invitation, Member

ID_SHOWN = 10
MEMBER_COLUMNS = (
    Column("member", 8, 24),
    Column("role", 8, 8),
    Column("nodes", 10, 60),
    Column("claims to be of", 15, 40, 2),
    Column("claimed contact", 15, 40, 4),
    Column("admitted", 16, 16, 3),
    Column("by", 6, 24, 5),
)
INVITATION_COLUMNS = (
    Column("invitation", 10, 10),
    Column("role", 8, 8),
    Column("used", 6, 9, right=True),
    Column("state", 7, 7),
    Column("expires", 16, 16, 1),
    Column("by", 6, 24, 2),
)
HISTORY_COLUMNS = (
    Column("claimed", 16, 16, 1),
    Column("who", 6, 24),
    Column("what", 20, 200),
)
OUT, REVOKED, VOID = "out", "revoked", "✗"
NOT_CLAIMED = "–"
_INVITATION_STYLES = {"open": "good", "revoked": "warn", "expired": "dim", "used up": "dim"}
_KIND_STYLES = {
    "member.remove": "bad",
    "member.leave": "warn",
    "member.role": "accent",
    "member.admit": "good",
    "node.revoke": "bad",
    "node.bind": "good",
    "invite.post": "accent",
    "invite.revoke": "warn",
    "run.stop": "warn",
}


def member_rows(group: Group) -> ListRows:
    """One row a member, then those who are out, then the nodes of members that were revoked."""
    rows = ListRows(
        Row(
            member.member_id,
            (
                Cell(member.name, "strong" if member.role == "admin" else ""),
                Cell(member.role, "accent" if member.role == "admin" else ""),
                Cell(", ".join(member.nodes) or "no node yet"),
                Cell(member.organisation or NOT_CLAIMED, "" if member.organisation else "dim"),
                Cell(member.contact or NOT_CLAIMED, "" if member.contact else "dim"),
                Cell(date_text(member.admitted_at), "dim"),
                Cell(member.admitted_by, "dim"),
            ),
        )
        for member in group.members
    )
    rows += [_gone_row(each.member_id, each.name, OUT, each.how, each.since) for each in group.former]
    rows += [
        _gone_row(each.node_id, f"{each.name} of {each.member}", REVOKED, each.how, each.since)
        for each in group.revoked
    ]
    return rows


def _gone_row(key: str, name: str, state: str, how: str, since: datetime | None) -> Row:
    told = (Cell(name, "dim"), Cell(state, "warn"), Cell(how, "dim"), Cell("", "dim"), Cell("", "dim"))
    return Row(f"{OUT}/{key}", (*told, Cell(date_text(since), "dim"), Cell("", "dim")))


def member_text(group: Group, member: Member) -> str:
    """All about a member, for a window. Whatever nobody has checked says so."""
    nodes = [f"{name}  {node_id}" for name, node_id in zip(member.nodes, member.node_ids, strict=False)]
    revoked = [
        f"{each.name}  {each.node_id}  {each.how} {date_text(each.since)}"
        for each in group.revoked
        if each.member_id == member.member_id
    ]
    by = f" by {member.admitted_by}" if member.admitted_by else ""
    facts = [
        ("name", member.name),
        ("role", member.role),
        ("claims to be", f"of {member.organisation}" if member.organisation else NOT_CLAIMED),
        ("contact", f"{member.contact}, as claimed" if member.contact else NOT_CLAIMED),
        ("admitted", f"{date_text(member.admitted_at)}{by}"),
        *(("" if at else "nodes", node) for at, node in enumerate(nodes or ["none yet"])),
        *(("" if at else "revoked", node) for at, node in enumerate(revoked)),
        ("id", member.member_id),
    ]
    return "\n".join(f"{name:<13}{value}" for name, value in facts)


def invitation_rows(group: Group) -> ListRows:
    """One row an invitation, the newest first: what was sent last is what one looks for."""
    return ListRows(
        Row(
            each.invite_id,
            (
                Cell(each.invite_id[:ID_SHOWN]),
                Cell(each.role),
                Cell(f"{each.used}/{each.uses}"),
                Cell(state_of(each), _INVITATION_STYLES.get(state_of(each), "")),
                Cell(date_text(each.expires_at), "dim"),
                Cell(each.by, "dim"),
            ),
        )
        for each in reversed(group.invitations)
    )


def state_of(invitation: Invitation) -> str:
    """Its state in a word, also as nodes tell it that say less."""
    if invitation.state:
        return invitation.state
    return "revoked" if invitation.revoked else "used up" if invitation.used >= invitation.uses else "open"


def history_rows(history: History) -> ListRows:
    """One row an operation. What does not count is marked, and says why."""
    return ListRows(
        Row(
            each.hash,
            (
                Cell(date_text(each.claimed_at), "dim"),
                Cell(each.by_member),
                Cell(f"{VOID} void: {each.text} – {each.why}", "dim")
                if each.why
                else Cell(each.text, _KIND_STYLES.get(each.kind, "")),
            ),
        )
        for each in history.operations
    )


def author_of(signed: Signed) -> str:
    """The member, and its node where that is not named yet."""
    return signed.by_member if signed.by_name in signed.by_member else f"{signed.by_member} ({signed.by_name})"


def entry_text(signed: Signed) -> str:
    """The whole entry, for a window."""
    counts = f"no: {signed.why}" if signed.why else "yes"
    parents = signed.parents or ("none: it is the first",)
    facts = [
        ("what", signed.text),
        ("kind", signed.kind),
        ("by", f"{author_of(signed)}  {signed.by_node}"),
        ("claimed", f"{date_text(signed.claimed_at)}, by the author's clock"),
        ("counts", counts),
        ("hash", signed.hash),
        *(("parents" if not at else "", parent) for at, parent in enumerate(parents)),
        ("before it", signed.previous or "nothing of its author's"),
        ("size", f"{signed.bytes:,} bytes, signed"),
    ]
    return "\n".join(f"{name:<13}{value}" for name, value in facts)
