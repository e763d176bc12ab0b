"""What the tables about groups say: members and invitations."""

from collections.abc import Sequence

from tui.drawing.grid import Cell, Column, ListRows, Row
from tui.drawing.words import date_text
from tui.facts.nodes import Group

MEMBER_COLUMNS = (
    Column("member", 10, 24),
    Column("role", 8, 8),
    Column("nodes", 10, 60),
    Column("admitted", 16, 16, 1),
)
INVITATION_COLUMNS = (
    Column("invitation", 10, 16),
    Column("role", 8, 8),
    Column("used", 6, 7, right=True),
    Column("state", 8, 8),
    Column("expires", 16, 16, 1),
    Column("by", 6, 20, 2),
)


def member_rows(groups: Sequence[Group]) -> ListRows:
    """One row a member of each group."""
    return ListRows(
        Row(
            f"{group.group_id}/{member.member_id}",
            (
                Cell(member.name, "strong" if member.role == "admin" else ""),
                Cell(member.role),
                Cell(", ".join(member.nodes) or "no node yet"),
                Cell(date_text(member.admitted_at), "dim"),
            ),
        )
        for group in groups
        for member in group.members
    )


def invitation_rows(groups: Sequence[Group]) -> ListRows:
    """One row an invitation of each group."""
    return ListRows(
        Row(
            f"{group.group_id}/{each.invite_id}",
            (
                Cell(each.invite_id),
                Cell(each.role),
                Cell(f"{each.used}/{each.uses}"),
                Cell("revoked" if each.revoked else "used up" if each.used >= each.uses else "open"),
                Cell(date_text(each.expires_at), "dim"),
                Cell(each.by, "dim"),
            ),
        )
        for group in groups
        for each in group.invitations
    )
