"""A group: who is in it with which role, which invitations are out, and what was signed in it, in words."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.events import Resize

from tui.drawing.grid import ListRows, matching
from tui.drawing.picture import Picture, Span
from tui.drawing.words import counted
from tui.facts.asks import Ask, Wish, asking
from tui.facts.forms import Field, reason_field
from tui.facts.glance import Glance
from tui.facts.history import history_of
from tui.facts.nodes import ROLES, TOLD_OF_ROLES, Group, Member
from tui.views.group_rows import (
    HISTORY_COLUMNS,
    INVITATION_COLUMNS,
    MEMBER_COLUMNS,
    entry_text,
    history_rows,
    invitation_rows,
    member_rows,
    member_text,
    state_of,
)
from tui.views.view import View
from tui.widgets.dialogs import Dialog, Question
from tui.widgets.forms import Form, Then, open_form
from tui.widgets.messages import RowEntered, RowMoved
from tui.widgets.palette import Deed
from tui.widgets.picture_view import PictureView
from tui.widgets.row_table import RowTable

BESIDE_CELLS = 150  # of the view, from which on the history stands beside members and invitations
PAGE_OPERATIONS, OPERATIONS_MAX = 100, 1000  # of the history: what is asked at first, and what the node tells at once
NO_GROUP = "this node is in no group: Ctrl+P, then Create a group, or Join a group with a token"
NO_LOG = "a record holds runs, and not who is in a group"
CUT_OFF = (
    "Its nodes are cut off at once, and the group's messages get a new key. Runs go on without them. "
    "It comes back only by a new invitation."
)


class GroupView(View):
    """Members and invitations, and beside or below them the history; one group at a time."""

    DEFAULT_CSS = """
    GroupView #group-told { height: 4; display: none; }
    GroupView.-told #group-told { display: block; }
    GroupView #group-halves { height: 1fr; layout: vertical; }
    GroupView.-beside #group-halves { layout: horizontal; }
    GroupView #group-people { height: 5fr; }
    GroupView #members { height: 2fr; }
    GroupView #invitations { height: 1fr; }
    GroupView #history { height: 4fr; }
    GroupView.-beside #group-people { height: 1fr; width: 45%; }
    GroupView.-beside #history { height: 1fr; width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "put_out", "put out"),
        Binding("r", "role", "role"),
        Binding("I", "invite", "invite"),
        Binding("o", "other", "next group"),
        Binding("L", "leave", "leave"),
    ]
    filtered, first = "members", "members"
    keys: ClassVar[Sequence[tuple[str, str]]] = (
        ("d", "remove the member, revoke the invitation; asks once"),
        ("r", "give the member another role"),
        ("I", "invite somebody"),
        ("L", "leave the group; asks once"),
        ("o", "the next of our groups"),
        ("Enter", "a member, or a signed operation, in full"),
    )

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._chosen = ""  # the group's id
        self._asked = PAGE_OPERATIONS
        self._tries = 0  # what was done here; the history may have grown by it
        self._shown: tuple[object, ListRows] = (None, ListRows())
        self._people: tuple[object, ListRows, ListRows] = (None, ListRows(), ListRows())

    def compose(self) -> ComposeResult:
        yield PictureView(id="group-told", title="No longer in this group")
        with Horizontal(id="group-halves"):
            with Vertical(id="group-people"):
                yield RowTable(MEMBER_COLUMNS, id="members", title="Members", empty=NO_GROUP)
                yield RowTable(INVITATION_COLUMNS, id="invitations", title="Invitations", empty="none: I makes one")
            yield RowTable(HISTORY_COLUMNS, id="history", title="Signed history", empty="…")

    def on_resize(self, event: Resize) -> None:
        self.set_class(event.size.width >= BESIDE_CELLS, "-beside")

    def look_at(self, group_id: str) -> None:
        """Show this of our groups from the next look on, if it is one."""
        if group_id != self._chosen:
            self._chosen = group_id
            self._asked, self._shown = PAGE_OPERATIONS, (None, ListRows())

    # What is shown

    def wishes(self, glance: Glance) -> Iterable[Wish]:
        group = self._group()
        if group is not None:
            yield Wish(self._history(group), (group.operations, self._tries))

    def show(self, glance: Glance) -> None:
        group = self._group()
        self._show_told(group)
        members, invitations = self.table("members"), self.table("invitations")
        if group is None:
            members.empty = NO_LOG if glance.state.status.is_record else NO_GROUP
            for table in (members, invitations, self.table("history")):
                table.show(ListRows())
            self.set_title(members, "Members", glance)
            return
        self.set_title(members, self._title(group), glance)
        if self._people[0] is not group:
            self._people = group, member_rows(group), invitation_rows(group)
        members.show(matching(self._people[1], glance.choice.filter("members")))
        are_open = sum(state_of(each) == "open" for each in group.invitations)
        invitations.set_words(f"Invitations {are_open} open of {len(group.invitations)}")
        invitations.show(self._people[2])
        self._show_history(glance, group)

    def _title(self, group: Group) -> str:
        groups = self._groups()
        which = f" ({groups.index(group) + 1} of {len(groups)}, o: next)" if len(groups) > 1 else ""
        we_are = f"we are {group.role}" if group.role else "we are out"
        return f"{group.name}{which} · {counted(len(group.members), 'member')} · {we_are}"

    def _show_told(self, group: Group | None) -> None:
        told = group.out if group is not None else ""
        self.set_class(bool(told), "-told")
        self.query_one("#group-told", PictureView).show(partial(_told_lines, told))

    def _show_history(self, glance: Glance, group: Group) -> None:
        table, answers, ask = self.table("history"), glance.state.answers, self._history(group)
        if not answers.known(ask):
            table.empty = answers.trouble(ask) or "…"
            if not len(self._shown[1]):
                table.show(ListRows())
            return
        history = answers.read(ask, history_of)
        if self._shown[0] is not history:
            self._shown = history, history_rows(history)
        shown, total = len(history.operations), history.total
        table.set_words(f"Signed history {total}" if shown == total else f"Signed history {shown} of {total}")
        table.show(self._shown[1])

    def on_row_moved(self, message: RowMoved) -> None:
        """At the end of what is known of the history, more of it is asked."""
        if message.table == "history" and self.table("history").at_end and self._asked < OPERATIONS_MAX:
            self._asked = min(self._asked * 3, OPERATIONS_MAX)

    def on_row_entered(self, message: RowEntered) -> None:
        group, member = self._group(), self._member()
        if group is None:
            return
        if message.table == "members" and member is not None:
            message.stop()
            self.dashboard.push_screen(Dialog("A member", member_text(group, member)))
        elif message.table == "history":
            message.stop()
            signed = self.dashboard.state.answers.read(self._history(group), history_of).find(message.key)
            if signed is not None:
                self.dashboard.push_screen(Dialog("A signed operation", entry_text(signed)))

    # What can be done

    def deeds(self) -> Sequence[Deed]:
        group = self._group()
        if group is None:
            return ()
        member = self._member()
        deeds = [Deed(f"Leave {group.name}", "asks once", self.action_leave, "L")]
        if member is not None:
            deeds.append(Deed(f"Remove {member.name} from {group.name}", "asks once", self._remove, "d"))
            deeds.append(Deed(f"Change the role of {member.name}", member.role, self.action_role, "r"))
        if self._invitation():
            deeds.append(Deed(f"Revoke invitation {self._invitation()[:8]}", "asks once", self._revoke))
        return deeds

    def looked_at(self) -> Mapping[str, str]:
        group, member = self._group(), self._member()
        found = {"group": group.name} if group is not None else {}
        return found | ({"member": member.member_id} if member is not None else {})

    def action_other(self) -> None:
        """Look at the next of our groups."""
        groups = self._groups()
        if len(groups) < 2:
            self.dashboard.tell("this node is in no other group")
            return
        group = self._group()
        at = groups.index(group) if group in groups else 0
        self.look_at(groups[(at + 1) % len(groups)].group_id)
        self.dashboard.paint()

    def action_invite(self) -> None:
        self.dashboard.actions.invite()

    def action_put_out(self) -> None:
        """Remove the member, or revoke the invitation, whichever table one is in."""
        if self.dashboard.focused is self.table("invitations"):
            self._revoke()
        else:
            self._remove()

    def _remove(self) -> None:
        group, member = self._group(), self._member()
        if group is None or member is None:
            self.dashboard.tell("put the cursor on a member first")
            return

        async def send(values: dict[str, str]) -> Then:
            await self._tell("POST", "members", member.member_id, "remove", reason=values["reason"])
            self.dashboard.tell(f"{member.name} is out of {group.name}")
            return self.dashboard.paint

        nodes = f" and its nodes ({', '.join(member.nodes)})" if member.nodes else ""
        told = "everybody in the group can read it, and so can who is removed"
        reason = reason_field(told)
        intro = f"This removes {member.name}{nodes} from {group.name}. {CUT_OFF}"
        form = Form(f"Remove {member.name}?", intro, [reason], send)
        open_form(self.dashboard, form)

    def action_role(self) -> None:
        group, member = self._group(), self._member()
        if group is None or member is None:
            self.dashboard.tell("put the cursor on a member first")
            return

        async def send(values: dict[str, str]) -> Then:
            await self._tell("POST", "members", member.member_id, "role", role=values["role"])
            self.dashboard.tell(f"{member.name} has the role {values['role']} now")
            return self.dashboard.paint

        role = Field("role", "role", TOLD_OF_ROLES, member.role, ROLES)
        open_form(self.dashboard, Form(f"The role of {member.name}", f"In {group.name}.", [role], send))

    def _revoke(self) -> None:
        invite_id = self._invitation()
        if not invite_id:
            self.dashboard.tell("put the cursor on an invitation first")
            return
        body = f"Nobody enters by {invite_id[:8]} any more. Who has entered by it stays."
        done = f"invitation {invite_id[:8]} is revoked"
        question = Question("Revoke this invitation?", body)
        self.dashboard.push_screen(question, partial(self._go_on, ("DELETE", "invitations", invite_id), done))

    def action_leave(self) -> None:
        group = self._group()
        if group is None:
            return
        body = (
            f"All your nodes leave {group.name}. Your part in its runs ends; your record stays. "
            "You come back only by an invitation."
        )
        done = f"left {group.name}"
        self.dashboard.push_screen(
            Question(f"Leave {group.name}?", body), partial(self._go_on, ("POST", "leave"), done)
        )

    def _go_on(self, wish: tuple[str, ...], done: str, yes: bool | None) -> None:
        if yes:
            method, *parts = wish
            self.dashboard.do(self._tell(method, *parts), done)

    async def _tell(self, method: str, *parts: str, **body: str) -> object:
        self._tries += 1
        return await self.dashboard.feed.tell(method, "groups", self._chosen, *parts, **body)

    # What is looked at

    def _groups(self) -> list[Group]:
        groups = self.dashboard.state.groups.values()
        return sorted(groups, key=lambda group: (bool(group.out), group.name, group.group_id))

    def _group(self) -> Group | None:
        groups = self._groups()
        found = next((group for group in groups if group.group_id == self._chosen), groups[0] if groups else None)
        self._chosen = found.group_id if found is not None else ""
        return found

    def _member(self) -> Member | None:
        group, key = self._group(), self.table("members").cursor_key
        return next((member for member in group.members if member.member_id == key), None) if group else None

    def _invitation(self) -> str:
        return self.table("invitations").cursor_key

    def _history(self, group: Group) -> Ask:
        return asking("groups", group.group_id, "history", limit=self._asked)


def _told_lines(told: str, width: int, height: int) -> Picture:
    lines = textwrap.wrap(f"! {told}", max(width, 8), max_lines=max(height, 1), placeholder=" …")
    return Picture(width, height, tuple((Span(line, "bad"),) for line in lines[:height]))
