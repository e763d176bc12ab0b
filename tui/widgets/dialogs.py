"""The windows that open over a view: a text to read, and a question to answer once."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

KEYS = (
    ("1 … 8  i", "the views, and the inbox"),
    ("Tab h l", "from panel to panel"),
    ("j k g G", "through the rows; Ctrl+D, Ctrl+U page by page"),
    ("Enter", "look closer; Esc one step back"),
    ("/ n N", "filter what is listed; the next, the previous match"),
    ("[ ]", "other runs"),
    ("m M", "other curves"),
    ("a x S P", "accept, decline, stop, propose a run"),
    ("z", "one panel on all of it"),
    ("space", "hold the picture still, or let it go on"),
    ("y t", "copy the row's id; next theme"),
    ("< > { }", "in a replay: back and on, slower and faster"),
    ("Ctrl+P", "everything by name"),
    ("? q", "this page; quit"),
)
SIGNS = """\
♛ aggregator   ◐ training   ▲ uploading   ◌ waiting   ● ready
✗ away, lost   ⊘ declined   ✓ finished    ! failed    ? invited
○ a node that is not in the chosen run
Lines: whole from participants to their aggregator, dotted from
us to other nodes. On its way: → an update, ⇒ a checkpoint.
Curves: thick is the mean over all nodes (or the node under the
cursor), thin is one node each, named where its curve ends.
"""


def help_text(own: Sequence[tuple[str, str]]) -> str:
    """The page of help: a view's own keys, those that work everywhere, and what the signs mean."""
    lines = [f"{keys:<10} {what}" for keys, what in own]
    return "\n".join([*lines, *([""] if lines else []), *(f"{keys:<10} {what}" for keys, what in KEYS), "", SIGNS])


class Dialog(ModalScreen[bool]):
    """A window with a title and a text, over the view it was opened from."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "answer(False)", "close", show=False),
        Binding("j", "scroll(1)", "down", show=False),
        Binding("k", "scroll(-1)", "up", show=False),
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

    def action_scroll(self, lines: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)


class Question(Dialog):
    """Asks once before something that cannot be taken back. Dismissed with true only by a plain y."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes", show=False),
        Binding("n,escape,q,enter", "answer(False)", "no", show=False),
    ]

    def __init__(self, title: str, body: str) -> None:
        super().__init__(title, f"{body}\n\n y  yes     n  no")
