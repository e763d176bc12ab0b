"""The rows of the list of all runs, made when they come into sight, with a heading for each project where wanted."""

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from tui.drawing.grid import Cell, Column, Row
from tui.drawing.words import CROWN, STATE_STYLES, counted, date_text, state_sign, value_text
from tui.facts.run_list import PAGE_RUNS, Order, Page
from tui.facts.runs import Run
from tui.views.run_rows import BAR_WIDTH, progress_text

MARK = "◆"  # of a run that is chosen to be compared
OPEN_SIGN, CLOSED_SIGN = "▾", "▸"  # of a project whose runs are shown, or folded away
FALLING_SIGN, RISING_SIGN = "↓", "↑"
PROJECT_KEY = "project "  # begins the keys of headings, as no run's id does
COMING_KEY = "coming "  # and of rows whose page is still asked for
ROWS_REMEMBERED_MAX = 2_000  # what one scrolls to and fro in; others are made again

COLUMNS = (
    Column("", 1, 1),
    Column("name", 14, 26),
    Column("state", 11, 11),
    Column("round", BAR_WIDTH + 8, BAR_WIDTH + 12),
    Column("accuracy", 9, 9, 1, right=True),
    Column("left", 6, 8, 2, right=True),
    Column("loss", 6, 8, 5, right=True),
    Column("project", 9, 18, 3),
    Column("created", 16, 16, 6),
    Column("aggregator", 10, 18, 7),
    Column("note", 10, 80, 4),
)
_NAME = 1  # the place of the column that headings are written into


def list_columns(order: Order) -> tuple[Column, ...]:
    """The columns, with a sign at the one that the list goes by."""
    sign = FALLING_SIGN if order.is_descending else RISING_SIGN
    return tuple(each._replace(title=each.title + sign) if each.title == order.sort else each for each in COLUMNS)


def left_text(run: Run) -> str:
    """How long a run will still take, in the largest unit that fits; nothing once it is over."""
    seconds = run.seconds_left
    if run.ended or seconds is None or seconds < 0:
        return "" if run.ended else "–"
    for unit, size in (("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86_400.0)):
        if seconds < 99.5 * size or unit == "d":
            break
    return f"{seconds / size:.0f} {unit}"


class RunCells:
    """Makes the row of a run, once for each time it is told anew."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Run, bool, Row]] = {}

    def row(self, run: Run, *, is_marked: bool) -> Row:
        known = self._rows.get(run.run_id)
        if known is None or known[0] is not run or known[1] != is_marked:
            if len(self._rows) >= ROWS_REMEMBERED_MAX:
                self._rows.clear()
            known = self._rows[run.run_id] = (run, is_marked, _row(run, is_marked))
        return known[2]


def _row(run: Run, is_marked: bool) -> Row:
    style = STATE_STYLES.get(run.state, "")
    note = "waits for your answer" if run.asks_us else run.note or run.reason
    leader = f"{CROWN} {run.aggregator_name}" if run.aggregator and not run.ended else run.aggregator_name or "–"
    return Row(
        run.run_id,
        (
            Cell(MARK if is_marked else "", "key"),
            Cell(run.name, "strong"),
            Cell(f"{state_sign(run.state)} {run.state}", style),
            Cell(progress_text(run), "dim" if run.ended else style),
            Cell(value_text(run.accuracy)),
            Cell(left_text(run)),
            Cell(value_text(run.loss)),
            Cell(run.project, "dim"),
            Cell(date_text(run.created_at), "dim"),
            Cell(leader, "crown" if leader.startswith(CROWN) else "dim"),
            Cell(note, "warn" if run.asks_us or (run.note and not run.ended) else "dim"),
        ),
    )


class _Part(NamedTuple):
    """One project's part of the rows: where its heading stands, and the place of its first run in the whole list."""

    row: int
    project: str
    first: int
    runs: int
    is_folded: bool


class RunRows:
    """Rows for a table: those of the pages that came, a mark in the place of those that are still asked for.

    `pages` by number, `total` runs on all of them; `find` gives a run by its id. With `projects`, which have as many
    runs as they say, each has a heading, and those in `folded` that alone.
    """

    def __init__(
        self,
        pages: Mapping[int, Page],
        total: int,
        find: Callable[[str], Run | None],
        cells: RunCells,
        marked: Collection[str],
        projects: Sequence[tuple[str, int]] = (),
        folded: Collection[str] = (),
    ) -> None:
        self._pages = pages
        self._find = find
        self._cells = cells
        self._marked = marked
        self._parts: list[_Part] = []
        self._count = total
        if projects:
            self._lay_out(projects, folded)

    def _lay_out(self, projects: Sequence[tuple[str, int]], folded: Collection[str]) -> None:
        row = first = 0
        for project, runs in projects:
            self._parts.append(_Part(row, project, first, runs, project in folded))
            row += 1 + (0 if project in folded else runs)
            first += runs
        self._count = row

    def __len__(self) -> int:
        return self._count

    def key(self, index: int, /) -> str:
        part, place = self.place(index)
        if place is None and part is not None:
            return f"{PROJECT_KEY}{part.project}"
        return self._run_id(place or 0) or f"{COMING_KEY}{place}"

    def __getitem__(self, index: int, /) -> Row:
        part, place = self.place(index)
        if place is None and part is not None:
            return _heading(part)
        run = self._find(self._run_id(place or 0))
        if run is None:
            return _filled(f"{COMING_KEY}{place}", Cell("…", "dim"))
        return self._cells.row(run, is_marked=run.run_id in self._marked)

    def place(self, index: int) -> tuple[_Part | None, int | None]:
        """The project that a row belongs to, if the list is by project, and the place of its run in the whole list,
        which a heading has none of."""
        if not self._parts:
            return None, index
        part = self._parts[bisect_right(self._parts, index, key=lambda each: each.row) - 1]
        return part, part.first + index - part.row - 1 if index > part.row else None

    def pages_of(self, rows: range) -> set[int]:
        """The numbers of the pages that these rows are on."""
        places = (self.place(index)[1] for index in rows if 0 <= index < self._count)
        return {place // PAGE_RUNS for place in places if place is not None}

    def _run_id(self, place: int) -> str:
        page = self._pages.get(place // PAGE_RUNS)
        at = place % PAGE_RUNS
        return page.run_ids[at] if page is not None and at < len(page.run_ids) else ""


def _heading(part: _Part) -> Row:
    sign = CLOSED_SIGN if part.is_folded else OPEN_SIGN
    name = Cell(f"{sign} {part.project or '(no project)'}", "heading")
    row = _filled(f"{PROJECT_KEY}{part.project}", name)
    return row._replace(
        cells=(*row.cells[: _NAME + 1], Cell(counted(part.runs, "run"), "dim"), *row.cells[_NAME + 2 :])
    )


def _filled(key: str, name: Cell) -> Row:
    return Row(key, tuple(name if at == _NAME else Cell("") for at in range(len(COLUMNS))))
