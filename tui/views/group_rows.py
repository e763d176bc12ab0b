"""What the tables about a group say: its members, its invitations, and what was signed in it."""

from tui.drawing.grid import Cell, Column, ListRows, Row
from tui.drawing.words import date_text
from tui.facts.history import History, Signed
from tui.facts.nodes import Group, Invitation

ID_SHOWN = 10
MEMBER_COLUMNS = (
    Column("member", 8, 24),
    Column("role", 8, 8),
    Column("nodes", 10, 60),
    Column("admitted", 16, 16, 2),
    Column("by", 6, 24, 3),
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
OUT, VOID = "out", "✗"
_INVITATION_STYLES = {"open": "good", "revoked": "warn", "expired": "dim", "used up": "dim"}
_KIND_STYLES = {
    "member.remove": "bad",
    "member.leave": "warn",
    "member.role": "accent",
    "member.admit": "good",
    "invite.post": "accent",
    "invite.revoke": "warn",
    "run.stop": "warn",
}


def member_rows(group: Group) -> ListRows:
    """One row a member, then those who are out."""
    rows = ListRows(
        Row(
            member.member_id,
            (
                Cell(member.name, "strong" if member.role == "admin" else ""),
                Cell(member.role, "accent" if member.role == "admin" else ""),
                Cell(", ".join(member.nodes) or "no node yet"),
                Cell(date_text(member.admitted_at), "dim"),
                Cell(member.admitted_by, "dim"),
            ),
        )
        for member in group.members
    )
    rows += [
        Row(
            f"{OUT}/{former.member_id}",
            (
                Cell(former.name, "dim"),
                Cell(OUT, "warn"),
                Cell(former.how, "dim"),
                Cell(date_text(former.since), "dim"),
                Cell("", "dim"),
            ),
        )
        for former in group.former
    ]
    return rows


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
