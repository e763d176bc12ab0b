"""Tables as values: columns that share a width, and rows that can be compared to see what must be painted again."""

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from rich.cells import cell_len, set_cell_size

from tui.drawing.picture import Line, Span
from tui.drawing.words import shortened

GAP = 1  # cells between two columns
NAME_WIDTH = 24  # most names are shorter
MEASURED_ROWS_MAX = 200  # widths are taken from so many rows; beyond that a longer text is cut


class Column(NamedTuple):
    """A column from `least` to `most` cells wide. When room lacks, the highest `rank` goes first; rank 0 never goes."""

    title: str
    least: int
    most: int
    rank: int = 0
    right: bool = False


class Cell(NamedTuple):
    text: str
    style: str = ""


class Row(NamedTuple):
    """One row; `key` says what it is about and stays when its cells change."""

    key: str
    cells: tuple[Cell, ...]


class Rows(Protocol):
    """What a table shows. Rows may be made when they are asked for: only those in sight are."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Row: ...

    def key(self, index: int, /) -> str: ...


@runtime_checkable
class LongRows(Rows, Protocol):
    """Rows of which there are so many that they are found and searched without being made."""

    def find(self, key: str) -> int | None:
        """The index of the row with this key."""

    def has(self, index: int, wanted: str) -> bool:
        """Whether the row has `wanted`, which is in small letters, in it, capitals or not."""

    def in_full(self, index: int) -> str:
        """All that there is to say about the row."""


class ListRows(list[Row]):
    """Rows that are there already."""

    def key(self, index: int, /) -> str:
        return self[index].key


class Fitted(NamedTuple):
    """A column that is shown: its place in the rows, and its width."""

    at: int
    width: int
    column: Column


def fit(columns: Sequence[Column], rows: Rows, width: int) -> list[Fitted]:
    """Share `width` cells out: each column its least, then what its texts ask for, from the left.

    Columns of rank 0 hold names: before one of them is cut short, another column goes.
    """
    wishes = [_wish(column, rows, index) for index, column in enumerate(columns)]
    wanted = [
        column.least if column.rank else min(wish, NAME_WIDTH) for column, wish in zip(columns, wishes, strict=True)
    ]
    kept = list(range(len(columns)))
    while _sum(wanted, kept) > width and any(columns[index].rank for index in kept):
        kept.remove(max(kept, key=lambda index: (columns[index].rank, index)))
    spare = max(width - _sum([column.least for column in columns], kept), 0)
    fitted = []
    for index in kept:
        column = columns[index]
        more = min(max(wishes[index] - column.least, 0), spare)
        spare -= more
        fitted.append(Fitted(index, column.least + more, column))
    return fitted


def _sum(widths: Sequence[int], kept: list[int]) -> int:
    return sum(widths[index] for index in kept) + GAP * (len(kept) - 1)


def _wish(column: Column, rows: Rows, index: int) -> int:
    return column.most if column.least == column.most else min(_natural(column, rows, index), column.most)


def _natural(column: Column, rows: Rows, index: int) -> int:
    sample = range(min(len(rows), MEASURED_ROWS_MAX))
    return max(len(column.title), max((cell_len(rows[at].cells[index].text) for at in sample), default=0))


def heading(fitted: Sequence[Fitted], width: int) -> Line:
    """The line of the columns' titles."""
    return _join([(Cell(each.column.title, "heading"), each) for each in fitted], width, "heading")


def line(row: Row, fitted: Sequence[Fitted], width: int) -> Line:
    """One row's line, exactly `width` cells wide."""
    return _join([(row.cells[each.at], each) for each in fitted], width, "")


def _join(cells: list[tuple[Cell, Fitted]], width: int, gap_style: str) -> Line:
    spans: list[Span] = []
    used = 0
    for cell, each in cells:
        room = min(each.width, width - used)
        if room <= 0:
            break
        spans.append(Span(_padded(cell.text, room, right=each.column.right), cell.style))
        used += room
        gap = min(GAP, width - used)
        spans.append(Span(" " * gap, gap_style))
        used += gap
    return (*spans, Span(" " * (width - used), gap_style))


def _padded(text: str, width: int, *, right: bool) -> str:
    text = shortened(text, width)
    return " " * (width - cell_len(text)) + text if right else set_cell_size(text, width)


def matching(rows: ListRows, wanted: str) -> ListRows:
    """The rows that have `wanted` in one of their cells, capitals or not."""
    return ListRows(row for row in rows if _has(row, wanted.casefold())) if wanted else rows


def _has(row: Row, wanted: str) -> bool:
    return any(wanted in cell.text.casefold() for cell in row.cells)


def find(rows: Rows, key: str) -> int | None:
    """The index of the row with this key."""
    if isinstance(rows, LongRows):
        return rows.find(key)
    return next((index for index in range(len(rows)) if rows.key(index) == key), None)


def has(rows: Rows, index: int, wanted: str) -> bool:
    """Whether the row has `wanted` in it, capitals or not."""
    if isinstance(rows, LongRows):
        return rows.has(index, wanted.lower())
    return _has(rows[index], wanted.casefold())


def marked(drawn: Line, wanted: str) -> Line:
    """The line with every place where `wanted` stands in a style of its own."""
    spans: list[Span] = []
    for span in drawn:
        at = 0
        for match in re.finditer(re.escape(wanted), span.text, re.IGNORECASE):
            spans += [Span(span.text[at : match.start()], span.style), Span(match[0], "match")]
            at = match.end()
        spans.append(Span(span.text[at:], span.style))
    return tuple(span for span in spans if span.text)
