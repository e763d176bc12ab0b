"""The inbox: everything that waits for a person, and beside it the whole of what is looked at."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.events import Resize

from tui.drawing.grid import matching
from tui.facts.asks import Ask, Wish, asking
from tui.facts.glance import Glance
from tui.facts.inbox import Item, proposal_of
from tui.views.inbox_rows import ITEM_COLUMNS, empty_page, item_page, item_rows
from tui.views.view import View
from tui.widgets.messages import RowEntered, RowMoved
from tui.widgets.page import Page
from tui.widgets.palette import Deed
from tui.widgets.row_table import RowTable

READ_S = 1.0  # nobody reads a page sooner: a key that is pressed twice must not answer what has come into its place
SIDE_BY_SIDE_COLUMNS = 100  # below it the page takes the list's place when it is opened


class InboxView(View):
    """The list on the left, the chosen item's page on the right; on a small screen one of them."""

    DEFAULT_CSS = """
    InboxView > Horizontal { height: 1fr; }
    InboxView #inbox { width: 42%; max-width: 84; }
    InboxView #inbox-page { width: 1fr; }
    InboxView.-small #inbox { width: 1fr; max-width: 100%; }
    InboxView.-small #inbox-page { display: none; }
    InboxView.-small.-open #inbox { display: none; }
    InboxView.-small.-open #inbox-page { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "accept_item", "accept"),
        Binding("x", "decline_item", "decline"),
        Binding("d", "seen", "done"),
        Binding("enter", "go", "go there", show=False),
        Binding("escape", "close", "back to the list", show=False),
    ]
    filtered, first = "inbox", "inbox"
    keys = (
        ("a x", "accept or decline the proposal"),
        ("Enter", "open it; on its page, go to what it is about"),
        ("d", "done: I have seen it, out of the inbox"),
    )

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._tries = 0  # answers given here; what the node has for a run may have changed by them
        self._told, self._told_at = "", 0.0  # the proposal whose page says all that it asks for, and since when

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield RowTable(ITEM_COLUMNS, id="inbox", title="Inbox", empty="nothing waits for you")
            yield Page(id="inbox-page")

    # What is shown

    def show(self, glance: Glance) -> None:
        table, items = self.table("inbox"), glance.state.inbox()
        self.set_title(table, f"Inbox {len(items)}" if items else "Inbox", glance)
        table.show(matching(item_rows(items), glance.choice.filter("inbox")))
        item, page = self._item(), self.query_one(Page)
        self._note_told(item, glance)
        if item is None:
            is_record = glance.state.status.is_record
            page.set_words("")
            page.show(lambda width: empty_page(width, is_record=is_record), "")
            self.remove_class("-open")
            return
        answers, ask = glance.state.answers, _proposal_ask(item)
        proposal = answers.read(ask, proposal_of) if answers.known(ask) else None
        trouble = answers.trouble(ask)
        page.set_words(item.kind.replace("-", " "))
        page.show(lambda width: item_page(item, width, proposal, trouble), item.item_id)

    def _note_told(self, item: Item | None, glance: Glance) -> None:
        told = item.item_id if item is not None and glance.state.answers.known(_proposal_ask(item)) else ""
        if told != self._told:
            self._told, self._told_at = told, glance.now

    def wishes(self, glance: Glance) -> Iterable[Wish]:
        item = self._item()
        if item is not None and item.asks:
            yield Wish(_proposal_ask(item), self._tries)

    def _item(self) -> Item | None:
        """The one under the cursor."""
        key = self.table("inbox").cursor_key
        return next((item for item in self.dashboard.state.inbox() if item.item_id == key), None)

    def on_row_moved(self, message: RowMoved) -> None:
        item = self._item()
        if item is not None and item.run_id:
            self.dashboard.choice.run_id = item.run_id

    def on_resize(self, event: Resize) -> None:
        self.set_class(event.size.width < SIDE_BY_SIDE_COLUMNS, "-small")

    # Where it leads

    def on_row_entered(self, message: RowEntered) -> None:
        message.stop()
        if self.has_class("-small"):
            self.add_class("-open")
            self.query_one(Page).focus()
        else:
            self.action_go()

    def action_go(self) -> None:
        """To the thing that the item is about."""
        item = self._item()
        if item is None:
            return
        if "run" in item.actions and item.run_id:
            self.dashboard.look_at_run(item.run_id)
        elif "node" in item.actions and item.node_id:
            self.dashboard.look_at_node(item.node_id)
        elif "group" in item.actions:
            self.dashboard.look_at_group(item.group_id)

    def action_close(self) -> None:
        """Back to the list where the page has its place; else one step out, as everywhere."""
        if self.has_class("-open") and self.has_class("-small"):
            self.remove_class("-open")
            self.table("inbox").focus()
        else:
            self.dashboard.action_out()

    # What can be done

    def action_seen(self) -> None:
        item = self._item()
        if item is None:
            return
        if item.needs == "answer":
            self.dashboard.tell("this one stays until it is answered: a accepts, x declines", severity="warning")
            return
        self.dashboard.do(self.dashboard.feed.tell("POST", "inbox", item.item_id, "seen"), "seen")

    def action_accept_item(self) -> None:
        """Without a question only where the item's page, with all that it asks for, is there to be read."""
        item = self._asking()
        if item is not None:
            self._tries += 1
            is_told = self._told == item.item_id and self.dashboard.clock() - self._told_at >= READ_S
            self.dashboard.actions.accept(item.run_id, is_in_sight=is_told and self.query_one(Page).is_on_screen)

    def action_decline_item(self) -> None:
        item = self._asking()
        if item is not None:
            self._tries += 1
            self.dashboard.actions.decline(item.run_id)

    def deeds(self) -> Sequence[Deed]:
        item = self._item()
        if item is None:
            return ()
        deeds = [Deed("Inbox: go to what the item is about", "key Enter", self.action_go)]
        if item.asks:
            deeds.append(Deed("Inbox: accept the proposal", "key a", self.action_accept_item))
            deeds.append(Deed("Inbox: decline the proposal", "key x; asks once", self.action_decline_item))
        else:
            deeds.append(Deed("Inbox: done, I have seen the item", "key d", self.action_seen))
        return deeds

    def _asking(self) -> Item | None:
        item = self._item()
        if item is not None and item.asks:
            return item
        self.dashboard.tell("nothing is to be accepted or declined here: choose a proposal (?)", severity="warning")
        return None


def _proposal_ask(item: Item) -> Ask:
    return asking("runs", item.run_id, "proposal")
