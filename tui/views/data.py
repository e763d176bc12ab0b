"""This node's data sets and models."""

from collections.abc import Iterable

from textual.app import ComposeResult

from tui.drawing.grid import Cell, Column, ListRows, Row
from tui.drawing.words import bytes_text
from tui.facts.asks import Wish, asking
from tui.facts.fields import Json, items, number, text
from tui.facts.glance import Glance
from tui.views.view import View
from tui.widgets.row_table import RowTable

DATA_COLUMNS = (
    Column("data set", 10, 24),
    Column("kind", 7, 7),
    Column("size", 8, 8, right=True),
    Column("fingerprint", 12, 16, 2),
    Column("path", 12, 120, 1),
)
DATA = asking("data")


def data_rows(answer: Json) -> ListRows:
    return ListRows(
        Row(
            text(each, "name"),
            (
                Cell(text(each, "name"), "strong"),
                Cell(text(each, "kind")),
                Cell(bytes_text(number(each, "bytes"))),
                Cell(text(each, "fingerprint")[:16], "dim"),
                Cell(text(each, "path"), "dim"),
            ),
        )
        for each in items(answer, "data")
    )


class DataView(View):
    filtered, first = "data-sets", "data-sets"

    def compose(self) -> ComposeResult:
        yield RowTable(DATA_COLUMNS, id="data-sets", title="Data sets", empty="fednode data add registers one")

    def wishes(self, glance: Glance) -> Iterable[Wish]:
        yield Wish(DATA)

    def show(self, glance: Glance) -> None:
        self.table("data-sets").show(glance.state.answers.read(DATA, data_rows))
