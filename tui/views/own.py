"""The member that this node belongs to: its nodes, its device links, what it says of itself, what the doctor finds."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.events import Resize

from tui.drawing.grid import ListRows, matching
from tui.facts.asks import Wish, asking
from tui.facts.glance import Glance
from tui.facts.own import OwnNode, OwnNodes, checks_of, own_nodes_of, profile_of
from tui.views.own_rows import ID_SHOWN, LINK_COLUMNS, OWN_COLUMNS, link_rows, own_page, own_rows
from tui.views.view import View
from tui.widgets.dialogs import Question
from tui.widgets.page import Page
from tui.widgets.palette import Deed
from tui.widgets.row_table import RowTable

NODES, PROFILE, DOCTOR = asking("nodes"), asking("profile"), asking("doctor")
ASK_EVERY_S = 1.0  # while it is in sight: whoever links a machine waits here for it to come in
BESIDE_CELLS = 120  # from which on the page stands beside the tables
NOT_ITSELF = "a node does not revoke itself: revoke it from another node of yours, or leave the group (8, then L)"
USED = "a machine has used this device link: if it is not yours, revoke that node"
LINK_TEXT = (
    "No machine becomes a node of yours by it any more. It was shown once, and is not shown again: L makes another."
)
NOT_THE_KEY = "this node does not hold the member's key: revoke from one that does"


class OwnPanel(View):
    """A part of the view of devices: tables of one's nodes and device links, and the page; beside or below."""

    DEFAULT_CSS = """
    OwnPanel #own-halves { height: 1fr; layout: vertical; }
    OwnPanel.-beside #own-halves { layout: horizontal; }
    OwnPanel #own-tables { height: 1fr; }
    OwnPanel.-beside #own-tables { width: 3fr; }
    OwnPanel #own-nodes { height: 1fr; min-height: 4; }
    OwnPanel #device-links { height: 4; display: none; }
    OwnPanel.-beside #device-links { height: 8; }
    OwnPanel.-links #device-links { display: block; }
    OwnPanel #own-page { height: 1fr; }
    OwnPanel.-beside #own-page { width: 2fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("L", "link", "link a device"),
        Binding("d", "revoke", "revoke"),
        Binding("e", "profile", "profile"),
        Binding("D", "doctor", "look again"),
    ]
    filtered, first = "own-nodes", "own-nodes"
    keys: ClassVar[Sequence[tuple[str, str]]] = (
        ("L", "own nodes: let another machine of yours be your node"),
        ("d", "own nodes: revoke the node, or take the device link back, for good; asks once"),
        ("e D", "own nodes: change what you say of yourself; look again"),
    )

    def compose(self) -> ComposeResult:
        with Horizontal(id="own-halves"):
            with Vertical(id="own-tables"):
                yield RowTable(OWN_COLUMNS, id="own-nodes", title="Own nodes", empty="…")
                yield RowTable(LINK_COLUMNS, id="device-links", title="Device links", empty="none")
            yield Page(id="own-page", title="You, and this node")

    def on_resize(self, event: Resize) -> None:
        self.set_class(event.size.width >= BESIDE_CELLS, "-beside")

    @property
    def nodes(self) -> RowTable:
        return self.table("own-nodes")

    # What is shown

    def wishes(self, glance: Glance) -> Iterator[Wish]:
        """Asked while the panel is in sight. The doctor looks when one comes here, and when D is pressed."""
        yield Wish(NODES, int(glance.now // ASK_EVERY_S))
        yield Wish(PROFILE)
        yield Wish(DOCTOR)

    def show(self, glance: Glance) -> None:
        answers = glance.state.answers
        own = answers.read(NODES, own_nodes_of) if answers.known(NODES) else None
        self.set_title(self.nodes, _title(own), glance)
        self.nodes.empty = answers.trouble(NODES) or "…"
        rows = own_rows(own, is_record=glance.state.status.is_record) if own else ListRows()
        self.nodes.show(matching(rows, glance.choice.filter("own-nodes")))
        links = self.table("device-links")
        found = link_rows(own, datetime.now(UTC)) if own else ListRows()
        self.set_class(bool(found), "-links")
        links.set_words(f"Device links {len(found)}")
        links.show(found)
        profile = answers.read(PROFILE, profile_of) if answers.known(PROFILE) else None
        checks = answers.read(DOCTOR, checks_of) if answers.known(DOCTOR) else None
        no_profile, no_checks = answers.trouble(PROFILE), answers.trouble(DOCTOR)
        self.query_one(Page).show(lambda width: own_page(profile, no_profile, checks, no_checks, width), "own")

    # What can be done

    def deeds(self) -> list[Deed]:
        deeds = [Deed("Look again what is wrong with this node", "fednode doctor", self.action_doctor, "D")]
        if self.table("device-links").has_focus:
            deeds.append(Deed("Take the device link back", "for good; asks once", self.action_revoke, "d"))
            return deeds
        node = self.chosen
        if node is not None and node.revoked_at is None:
            deeds.append(Deed(f"Revoke {node.name}", "for good; asks once", self.action_revoke, "d"))
        return deeds

    @property
    def chosen(self) -> OwnNode | None:
        """The node under the cursor."""
        return self.dashboard.state.answers.read(NODES, own_nodes_of).find(self.nodes.cursor_key)

    def action_link(self) -> None:
        self.dashboard.actions.link()

    def action_profile(self) -> None:
        self.dashboard.actions.profile()

    def action_doctor(self) -> None:
        """Ask once more whatever is shown here."""
        self.dashboard.actions.look_again()

    def action_revoke(self) -> None:
        """Put the node under the cursor out for good, after saying what that means; or take the device link back."""
        if self.table("device-links").has_focus:
            self._revoke_link(self.table("device-links").cursor_key)
            return
        node, own = self.chosen, self.dashboard.state.answers.read(NODES, own_nodes_of)
        if node is None or node.revoked_at is not None:
            self.dashboard.tell("put the cursor on a node of yours that is not revoked")
            return
        if node.is_self:
            self.dashboard.tell(NOT_ITSELF, severity="warning")
            return
        if not own.holds_member_key:
            holders = ", ".join(holder.name for holder in own.holders)
            self.dashboard.tell(f"{NOT_THE_KEY}{f' ({holders})' if holders else ''}", severity="warning")
            return

        async def send() -> None:
            await self.dashboard.feed.tell("POST", "nodes", "revoke", node=node.node_id)
            self.dashboard.actions.look_again()

        def answered(yes: bool | None) -> None:
            if yes:
                self.dashboard.do(send(), f"{node.name} is revoked")

        self.dashboard.push_screen(Question(f"Revoke {node.name}?", revoke_text(node)), answered)

    def _revoke_link(self, link_id: str) -> None:
        own = self.dashboard.state.answers.read(NODES, own_nodes_of)
        link = next((each for each in own.links if each.link_id == link_id), None)
        if link is None or link.revoked:
            self.dashboard.tell("put the cursor on a device link that nobody has used")
            return
        if link.used_by:
            self.dashboard.tell(USED, severity="warning")
            return

        async def send() -> None:
            await self.dashboard.feed.tell("DELETE", "nodes", "links", link_id)
            self.dashboard.actions.look_again()

        def answered(yes: bool | None) -> None:
            if yes:
                self.dashboard.do(send(), f"the device link {link_id[:ID_SHOWN]} is taken back")

        self.dashboard.push_screen(Question(f"Take the device link {link_id[:ID_SHOWN]} back?", LINK_TEXT), answered)


def _title(own: OwnNodes | None) -> str:
    if own is None or not own.nodes:
        return "Own nodes"
    key = "this node holds the member's key" if own.holds_member_key else "the member's key is elsewhere"
    return f"Own nodes {len(own.nodes)} of {own.member} · {key}"


def revoke_text(node: OwnNode) -> str:
    """What revoking comes to, for the question."""
    where = f"out of {', '.join(node.groups)}" if node.groups else "out, in whatever groups it is"
    said = [
        f"This puts {node.name} (…{node.node_id[-8:]}) {where}, for good. It is cut off at once, the groups' messages "
        "get new keys, and runs go on without it. What it was sent it keeps. Its key is never let in again: the "
        "machine can only become a new node, by a new link."
    ]
    if node.holds_member_key:
        said.append(
            f"{node.name} holds your member's key too. If others have that machine, they can still make nodes in your "
            "name: have an admin remove you from the groups, and join again with a new identity."
        )
    return "\n\n".join(said)
