"""The windows that open over a view: a text to read, and a question to answer once."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

HELP = """\
1 2 3 4 5   overview, run, nodes, log, groups
Tab h l     from panel to panel      z   one panel on all of it
j k g G     through the rows         /   filter what is listed
Ctrl+D U    page by page             y   copy the row's id
Enter       look closer              Esc one step back
[ ]         other runs               m M other curves
v           log level                p   hold the picture still
a x         accept, decline a run    S   stop a run
Ctrl+P      everything by name       t   next theme
?           this page                q   quit

♛ aggregator   ◐ training   ▲ uploading   ◌ waiting   ● ready
✗ away, lost   ⊘ declined   ✓ finished    ! failed    ? invited
○ a node that is not in the chosen run
Lines: whole from participants to their aggregator, dotted from
us to other nodes. On its way: → an update, ⇒ a checkpoint.
Curves: thick is the mean over all nodes (or the node under the
cursor), thin is one node each, named where its curve ends.
"""


class Dialog(ModalScreen[bool]):
    """A window with a title and a text, over the view it was opened from."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "answer(False)", "close", show=False)
    ]

    def __init__(self, title: str, body: str) -> None:
        super().__init__()
        self._title = title
        self._body = body

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Content(self._title)
            with VerticalScroll():
                yield Static(Text(self._body))

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)


class Question(Dialog):
    """Asks once before something that cannot be taken back. Dismissed with true only by a plain y."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes", show=False),
        Binding("n,escape,q,enter", "answer(False)", "no", show=False),
    ]

    def __init__(self, title: str, body: str) -> None:
        super().__init__(title, f"{body}\n\n y  yes     n  no")
