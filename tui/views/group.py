"""Who is in our groups, and which invitations are out."""

from textual.app import ComposeResult

from tui.drawing.grid import ListRows, matching
from tui.facts.glance import Glance
from tui.views.group_rows import INVITATION_COLUMNS, MEMBER_COLUMNS, invitation_rows, member_rows
from tui.views.view import View
from tui.widgets.row_table import RowTable


class GroupView(View):
    filtered, first = "members", "members"

    def compose(self) -> ComposeResult:
        yield RowTable(MEMBER_COLUMNS, id="members", title="Members", empty="fednode group create makes a group")
        yield RowTable(INVITATION_COLUMNS, id="invitations", title="Invitations", empty="none")

    def show(self, glance: Glance) -> None:
        groups = sorted(glance.state.groups.values(), key=lambda group: (group.name, group.group_id))
        named = ", ".join(f"{group.name} (we are {group.role})" for group in groups)
        members = self.table("members")
        rows = member_rows(groups)
        self.set_title(members, f"Members of {named}" if named else "Members", glance)
        members.show(matching(rows, glance.choice.filter("members")))
        invitations = self.table("invitations")
        invitations.show(invitation_rows(groups) if groups else ListRows())
