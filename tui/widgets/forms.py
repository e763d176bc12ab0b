"""A form over a view: a line for each field, checked as one types, and what it comes to at the bottom.

Enter carries out, Tab and the arrows go from field to field, Esc leaves. Nothing in it is taken for markup.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import Click, DescendantFocus, Paste
from textual.message import Message
from textual.screen import ModalScreen
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Input, Static

from tui.facts.forms import Field
from tui.feeds.feed import FeedError
from tui.widgets.dialogs import Question

CHOSEN, OTHER = "●", "○"
NONE_WORD = "–"  # how the choice of nothing is written
HINTS = "Enter carry out   Tab ↑ ↓ fields   ← → choices   Esc leave"
WAITING = "…"


class FieldChanged(Message):
    """Another text stands in the field of this name."""

    def __init__(self, name: str, value: str) -> None:
        super().__init__()
        self.name, self.value = name, value


class TextLine(Input):
    """A field to type in. What is pasted may have lines."""

    def __init__(self, field: Field, value: str) -> None:
        suggester = SuggestFromList(field.suggestions) if field.suggestions else None
        # What holds when nothing is typed stays in sight, faintly.
        super().__init__(value=value, placeholder=field.value, compact=True, suggester=suggester, select_on_focus=False)
        self.field = field

    def _on_paste(self, event: Paste) -> None:
        event.prevent_default()
        event.stop()
        self.insert_text_at_cursor(("" if self.field.is_token else " ").join(event.text.split()))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(FieldChanged(self.field.name, event.value.strip()))


class ChoiceLine(Widget, can_focus=True):
    """A field to choose in: all choices where there is room for them, else the chosen one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,space", "choose(1)", "next", show=False),
        Binding("left", "choose(-1)", "previous", show=False),
    ]

    def __init__(self, field: Field, value: str) -> None:
        super().__init__()
        self.field = field
        self.value = value if value in field.choices else field.choices[0]

    def action_choose(self, step: int) -> None:
        choices = self.field.choices
        self.choose(choices[(choices.index(self.value) + step) % len(choices)])

    def choose(self, value: str) -> None:
        if value != self.value and value in self.field.choices:
            self.value = value
            self.refresh()
            self.post_message(FieldChanged(self.field.name, value))

    def on_click(self, _event: Click) -> None:
        self.action_choose(1)

    def render(self) -> Text:
        words = {choice: choice or NONE_WORD for choice in self.field.choices}
        every = Text("   ").join(
            Text(f"{CHOSEN if choice == self.value else OTHER} {word}", "bold" if choice == self.value else "")
            for choice, word in words.items()
        )
        if every.cell_len <= self.size.width:
            return every
        at = self.field.choices.index(self.value) + 1
        return Text(f"{CHOSEN} {words[self.value]}   ← {at} of {len(words)} →", "bold")


class FieldRow(Vertical):
    """A field with its label, and what is wrong with it once somebody has touched it."""

    def __init__(self, field: Field, value: str, label_columns: int) -> None:
        super().__init__()
        self.field = field
        self.editor: TextLine | ChoiceLine = (ChoiceLine if field.choices else TextLine)(field, value)
        self.is_touched = False
        self.told = ""  # what somebody else, such as the node, finds wrong with it
        self._label_columns = label_columns

    def compose(self) -> ComposeResult:
        with Horizontal(classes="field"):
            label = Static(Text(f"{self.field.label} *" if self.field.needed else self.field.label), classes="label")
            label.styles.width = self._label_columns + 3
            yield label
            yield self.editor
        trouble = Static(classes="trouble")
        trouble.styles.margin = (0, 0, 0, self._label_columns + 3)
        yield trouble

    @property
    def value(self) -> str:
        return self.editor.value.strip()

    @value.setter
    def value(self, value: str) -> None:
        if value != self.value:
            if isinstance(self.editor, ChoiceLine):
                self.editor.choose(value)
            else:
                self.editor.value = value

    @property
    def trouble(self) -> str:
        return self.field.trouble(self.value) or self.told

    def show_trouble(self) -> None:
        trouble = self.trouble if self.is_touched or self.told else ""
        line = self.query_one(".trouble", Static)
        line.update(Text(f"✗ {trouble}"))
        line.display = bool(trouble)


Then = Callable[[], object]  # what is to be done once the form has closed
Send = Callable[[dict[str, str]], Awaitable[Then | None]]


class Form(ModalScreen[Then]):
    """A window of fields.

    Args:
        intro: what it is about, in a sentence or two.
        send: carries out what stands in the fields, in a worker, and may raise FeedError, which the form then shows;
            else the form closes, and is dismissed with what is to be done then (see `open_form`).
        preview: what the fields come to, shown at the bottom.
        asks: what will happen that cannot be taken back; unless it is empty it is asked once.
        values: what stands in the fields at first, by name, in the place of their own values.
    """

    DEFAULT_CSS = """
    Form { align: center middle; background: $background 60%; }
    Form > .box {
        width: 78; height: auto; max-width: 100%; max-height: 100%;
        border: heavy $accent; background: $surface; padding: 0 2;
    }
    Form .intro { height: auto; margin: 0 0 1 0; }
    Form .fields { height: auto; max-height: 100%; }
    Form FieldRow { height: auto; }
    Form .field { height: 1; }
    Form .label { height: 1; color: $foreground 75%; }
    Form TextLine, Form ChoiceLine { width: 1fr; height: 1; background: $background; }
    Form TextLine { border: none; padding: 0; }
    Form ChoiceLine:focus { background: $accent 30%; }
    Form TextLine:focus { background: $accent 20%; }
    Form .trouble { height: auto; color: $text-error; display: none; }
    Form .help { height: auto; min-height: 1; max-height: 3; margin: 1 0 0 0; color: $foreground 65%; }
    Form .preview { height: auto; max-height: 4; color: $text-accent; text-style: bold; }
    Form .outcome { height: auto; max-height: 8; color: $text-error; display: none; }
    Form .hints { height: 1; color: $foreground 50%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,ctrl+s", "carry_out", "carry out", show=False),
        Binding("down", "app.focus_next", "next field", show=False),
        Binding("up", "app.focus_previous", "previous field", show=False),
        Binding("escape", "leave", "leave", show=False),
    ]
    hints = HINTS

    def __init__(
        self,
        title: str,
        intro: str,
        fields: Sequence[Field],
        send: Send,
        *,
        preview: Callable[[dict[str, str]], str] | None = None,
        asks: Callable[[dict[str, str]], str] | None = None,
        values: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._title, self._intro = title, intro
        self._send, self._preview, self._asks = send, preview, asks
        columns = max((len(field.label) for field in fields), default=0)
        given = values or {}
        self.rows = {field.name: FieldRow(field, given.get(field.name, field.value), columns) for field in fields}
        self._is_busy = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title = Content(self._title)
            yield from self.inside()

    def inside(self) -> ComposeResult:
        """What stands in the window."""
        yield Static(Text(self._intro), classes="intro")
        with VerticalScroll(classes="fields", can_focus=False):
            yield from self.rows.values()
        yield from self.foot()

    def foot(self) -> ComposeResult:
        """What stands below the fields."""
        yield Static(classes="help")
        yield Static(classes="preview")
        yield Static(classes="outcome")
        yield Static(Text(self.hints), classes="hints")

    def on_mount(self) -> None:
        for row in self.rows.values():
            row.show_trouble()
        self.show_preview()
        empty = next((row for row in self.rows.values() if row.field.needed and not row.value), None)
        first = empty or next(iter(self.rows.values()))
        first.editor.focus()

    @property
    def values(self) -> dict[str, str]:
        return {name: row.value for name, row in self.rows.items()}

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        field = getattr(event.widget, "field", None)
        self.query_one(".help", Static).update(Text(field.help if field else ""))

    def on_field_changed(self, message: FieldChanged) -> None:
        row = self.rows[message.name]
        row.is_touched = True
        row.told = ""
        row.show_trouble()
        self.show_preview()

    def show_preview(self) -> None:
        line = self.query_one(".preview", Static)
        text = self._preview(self.values) if self._preview else ""
        line.update(Text(text))
        line.display = bool(text)

    def tell(self, text: str) -> None:
        """Say how it goes, below the fields."""
        line = self.query_one(".outcome", Static)
        line.update(Text(text))
        line.display = bool(text)

    def action_leave(self) -> None:
        self.dismiss()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_carry_out()

    def action_carry_out(self) -> None:
        """Do it if all is well, and once yes is said where that is asked; else show what is not."""
        if self._is_busy:
            return
        for row in self.rows.values():
            row.is_touched = True
            row.show_trouble()
        wrong = next((row for row in self.rows.values() if row.trouble), None)
        if wrong is not None:
            wrong.editor.focus()
        elif question := self._asks(self.values) if self._asks else "":
            self.app.push_screen(Question(f"{self._title}?", question), self._answered)
        else:
            self._answered(True)

    def _answered(self, yes: bool | None) -> None:
        if yes:
            self._is_busy = True
            self.tell(WAITING)
            self.run_worker(self._carry_out(), group="form")

    async def _carry_out(self) -> None:
        try:
            then = await self._send(self.values)
        except FeedError as error:
            self.tell(f"✗ {error}")
        else:
            self.dismiss(then)
        finally:
            self._is_busy = False


def open_form(app: App[None], form: Form) -> None:
    """Show a form over what is there, and do afterwards what came of it."""
    app.push_screen(form, lambda then: then() if then else None)
