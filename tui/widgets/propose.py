"""Proposing a run: a form beside the TOML that it comes to, both to write in, and what the node says as one types."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.css.query import NoMatches
from textual.timer import Timer
from textual.widgets import Static, TextArea

from tui.facts.fields import safe
from tui.facts.forms import Field
from tui.facts.proposal import OWN_FILE, Templates, Verdict
from tui.facts.toml_text import read
from tui.feeds.feed import FeedError
from tui.widgets.forms import FieldChanged, Form, Then

CHECK_AFTER_S = 0.3  # of silence at the keyboard
CONFIG_CHARACTERS_MAX = 64 * 1024  # what a node reads
INTRO = "Everybody in the group is asked, and each owner accepts or declines."
TWO_SIDES_COLUMNS = 110  # form and text beside each other, each as wide as its longest line
GROUP = "group"  # the one field that is no key of the configuration


class ProposeForm(Form):
    """The text is what counts: a field changes its line in it, and what one writes there shows in the fields.

    Args:
        groups: the names of our groups, the one to propose to first; asked for only where there are several.
        config: the text to begin with.
        check: the node's word on a configuration, for a group.
        propose: proposes it; both may raise FeedError.
    """

    DEFAULT_CSS = """
    ProposeForm > .box { width: 98%; height: 96%; }
    ProposeForm #propose-sides { height: 1fr; }
    ProposeForm .fields { width: 5fr; height: 1fr; }
    ProposeForm #propose-foot { height: auto; }
    ProposeForm #propose-text { width: 4fr; height: 1fr; border: round $foreground 25%; background: $background; }
    ProposeForm #propose-text:focus { border: heavy $accent; }
    ProposeForm.-one-side #propose-text { display: none; }
    ProposeForm.-one-side.-text #propose-text { display: block; width: 1fr; }
    ProposeForm.-one-side.-text .fields { display: none; }
    ProposeForm .outcome { color: $text-warning; }
    ProposeForm .outcome.-bad { color: $text-error; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f2", "other_side", "form or text", show=False)]
    hints = "Ctrl+S propose  Tab ↑ ↓ fields  ← → choices  F2 form, text  Esc leave"

    def __init__(
        self,
        templates: Templates,
        groups: tuple[str, ...],
        config: str,
        check: Callable[[str, str], Awaitable[Verdict]],
        propose: Callable[[str, str], Awaitable[Then | None]],
    ) -> None:
        fields = list(templates.fields)
        if len(groups) > 1:
            fields.insert(0, Field(GROUP, "group", "whom it is proposed to", groups[0], groups))
        values = {**_shown(config), GROUP: next(iter(groups), "")}
        super().__init__("Propose a run", INTRO, fields, self._propose, values=values)
        self._templates, self._check, self._send_it = templates, check, propose
        self.config = config
        self._checked = ("", "")  # the text and the group that the node has judged
        self.verdict = Verdict((), ())
        self._timer: Timer | None = None
        self.HORIZONTAL_BREAKPOINTS = [(0, "-one-side"), (TWO_SIDES_COLUMNS, "-two-sides")]

    def inside(self) -> ComposeResult:
        yield Static(Text(INTRO), classes="intro")
        with Horizontal(id="propose-sides"):
            with VerticalScroll(classes="fields", can_focus=False):
                yield from self.rows.values()
            area = TextArea(self.config, id="propose-text", show_line_numbers=False, soft_wrap=True)
            area.border_title = Content("as it will be sent: TOML, to edit")
            yield area
        with Vertical(id="propose-foot"):
            yield from self.foot()

    def on_mount(self) -> None:
        super().on_mount()
        self._show_task_file()
        self._check_soon()

    @property
    def _group(self) -> str:
        return self.rows[GROUP].value if GROUP in self.rows else ""

    # Fields and text

    def on_field_changed(self, message: FieldChanged) -> None:
        super().on_field_changed(message)
        # What stands in all of them now: somebody quick is further than the message, and must not be set back.
        fields = {name: row.value for name, row in self.rows.items() if name != GROUP}
        written = {name: value for name, value in fields.items() if self._in_force(name) != value}
        config = self.config
        for name, value in written.items():
            config = self._templates.changed(config, name, value)
        if written:
            self._take(config)
        self._show_task_file()
        self._check_soon()

    def _in_force(self, key: str) -> str:
        """What the text says of a key, or else the default."""
        return _shown(self.config).get(key, self.rows[key].field.value)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        config = event.text_area.text[:CONFIG_CHARACTERS_MAX]
        if config == self.config:
            return  # it came from a field, which by now may say more
        self.config = config
        self._show_values()
        self._check_soon()

    def _take(self, config: str) -> None:
        self.config = config
        area = self.query_one("#propose-text", TextArea)
        if area.text != config:
            area.text = config
        self._show_values()

    def _show_values(self) -> None:
        """What the text says, in the fields; of a key that it has not, the default stays in sight."""
        values = read(self.config)
        if values is None:
            return  # in the middle of being written
        shown = _shown(self.config)
        for key, row in self.rows.items():
            if key in shown:
                row.value = shown[key]

    def _show_task_file(self) -> None:
        if "task.path" in self.rows:
            self.rows["task.path"].display = self.rows["task.name"].value == OWN_FILE

    def action_other_side(self) -> None:
        self.toggle_class("-text")
        if not self.has_class("-one-side") or self.has_class("-text"):
            self.query_one("#propose-text").focus()
        if not self.has_class("-text"):
            next(iter(self.rows.values())).editor.focus()

    # The node's word

    def _check_soon(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(CHECK_AFTER_S, self._ask_node)

    def _ask_node(self) -> None:
        self.run_worker(self._judge(), group="check", exclusive=True)

    async def _judge(self) -> None:
        asked = (self.config, self._group)
        if asked == self._checked:
            return
        try:
            self.verdict = await self._check(*asked)
        except FeedError as error:
            self.verdict = Verdict((("", str(error)),), ())
        self._checked = asked
        with suppress(NoMatches):  # the form was left meanwhile
            self._show_verdict()

    def _show_verdict(self) -> None:
        elsewhere = []
        said = dict.fromkeys(self.rows, "")
        for key, what in self.verdict.troubles:
            if key in self.rows and self.rows[key].display:
                said[key] = what
            else:
                elsewhere.append(f"✗ {what}")
        for key, row in self.rows.items():
            row.told = said[key]
            row.show_trouble()
        outcome = self.query_one(".outcome", Static)
        outcome.set_class(not self.verdict.is_good, "-bad")
        well = ["✓ it can be proposed as it is"] if self.verdict.is_good and not self.verdict.notes else []
        if self.verdict.is_good and self.verdict.notes:
            well = ["! it can be proposed, but mind:"]
        self.tell("\n".join([*well, *elsewhere, *(f"· {note}" for note in self.verdict.notes)]))

    def action_carry_out(self) -> None:
        if not self._is_busy:
            self._is_busy = True
            self.run_worker(self._judge_and_send(), group="form")

    async def _judge_and_send(self) -> None:
        await self._judge()
        self._is_busy = False
        wrong = next((row for row in self.rows.values() if row.trouble and row.display), None)
        if wrong is not None:
            wrong.editor.focus()
        elif self.verdict.is_good:
            self._answered(True)

    async def _propose(self, _values: dict[str, str]) -> Then | None:
        return await self._send_it(self.config, self._group)


def _shown(config: str) -> dict[str, str]:
    """The text's values as the fields show them: TOML can name characters that no terminal should get."""
    values = {key: safe(value) for key, value in (read(config) or {}).items()}
    if "task.name" not in values:
        values["task.name"] = OWN_FILE
    return values
