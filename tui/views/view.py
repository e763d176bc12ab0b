"""What every view is: panels under one number key, which the app hands each look at the state of things."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Container

from tui.facts.asks import Wish
from tui.facts.glance import Glance
from tui.widgets.palette import Deed
from tui.widgets.row_table import RowTable

if TYPE_CHECKING:
    from tui.app import Dashboard


class View(Container):
    """One view. Lays panels out, fills them at every look, and says what more it wants to know.

    Its own keys are in its BINDINGS, and in `keys` for the page of help. A `RowEntered` of one of its tables comes to
    its `on_row_entered` first.
    """

    filtered: str = ""  # the table that a filter typed here applies to; a view with tabs changes it
    first: ClassVar[str] = ""  # the panel that gets the focus
    keys: ClassVar[Sequence[tuple[str, str]]] = ()  # this view's own keys, and what they do, for the page of help

    @property
    def dashboard(self) -> "Dashboard":
        """The app, by the name of its own class."""
        return self.app  # type: ignore[return-value]

    def show(self, glance: Glance) -> None:
        """Bring every panel up to date. Called at most twice a second, and only after news."""
        raise NotImplementedError

    def wishes(self, glance: Glance) -> Iterable[Wish]:
        """The answers that this view needs beyond the events. Asked while it is in sight."""
        return ()

    def deeds(self) -> Sequence[Deed]:
        """What can be done here, for the palette."""
        return ()

    def begin(self) -> None:
        """Show the first page: its key was pressed."""

    def looked_at(self) -> Mapping[str, str]:
        """What the cursor stands on, as the command line names it, by kind: run, group, node, member, data, model …

        Forms of commands are filled in with it.
        """
        return {}

    def table(self, name: str) -> RowTable:
        return self.query_one(f"#{name}", RowTable)

    def set_title(self, table: RowTable, title: str, glance: Glance) -> None:
        """A panel's title with the filter that is on it."""
        wanted = glance.choice.filter(table.id or "")
        table.set_words(f"{title} /{wanted}" if wanted else title)
