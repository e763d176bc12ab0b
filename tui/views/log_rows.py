"""The log as a table's rows. A hundred thousand lines may lie there: a row is made only when it is looked at."""

from collections.abc import Mapping
from datetime import date

from tui.drawing.grid import Cell, Column, Row
from tui.drawing.words import LEVEL_STYLES, LEVEL_WORDS, clock_text
from tui.facts.choice import Choice
from tui.facts.log_lines import Selection, Sought
from tui.facts.nodes import LogLine
from tui.facts.state import State

NO_LINES = "nothing yet"
MESSAGE = Column("message", 2_000, 2_000)  # all that is left: what lies in other rows does not narrow it
# Every width is fixed, so that none has to be found out among thousands of rows.
LOG_COLUMNS = (
    Column("time", 8, 8, 2),
    Column("level", 5, 5, 1),
    Column("node", 12, 12, 3),
    MESSAGE,
)
EXACT_LOG_COLUMNS = (Column("time", 12, 12, 1), *LOG_COLUMNS[1:])
WIDE_LOG_COLUMNS = (*EXACT_LOG_COLUMNS[:-1], Column("logger", 16, 16, 4), MESSAGE)


class LogRows:
    """Some lines of the log as rows. A row's key is the line's number and its node."""

    def __init__(
        self, selection: Selection, names: Mapping[str, str], columns: tuple[Column, ...] = LOG_COLUMNS
    ) -> None:
        self._selection = selection
        self._lines = selection.lines
        self._count = len(selection.lines)  # now; what comes later is for the next rows
        self._names = names
        self._columns = columns

    def __len__(self) -> int:
        return min(self._count, len(self._lines))

    def __getitem__(self, index: int, /) -> Row:
        line = self._lines[index]
        level = Cell(LEVEL_WORDS.get(line.level, line.level[:5]), LEVEL_STYLES.get(line.level, "") or "dim")
        node = Cell(self._node(line), "dim")
        message = Cell(line.message, LEVEL_STYLES.get(line.level, ""))
        time = clock_text(line.time) if self._columns is LOG_COLUMNS else self._time(line)
        logger = (Cell(line.logger, "dim"),) if self._columns is WIDE_LOG_COLUMNS else ()
        return Row(_key(line), (Cell(time, "dim"), level, node, *logger, message))

    def key(self, index: int, /) -> str:
        return _key(self._lines[index])

    def find(self, key: str) -> int | None:
        number, _, node = key.partition("@")
        return self._selection.find((node, int(number))) if number.isdigit() else None

    def has(self, index: int, wanted: str) -> bool:
        line = self._lines[index]
        return wanted in line.message.lower() or wanted in line.logger.lower()

    def in_full(self, index: int) -> str:
        """Everything about a line, its message with all of its lines."""
        line = self._lines[index]
        when = line.time.astimezone().isoformat(" ", "milliseconds") if line.time else "–"
        told = (("time", when), ("level", line.level), ("node", self._node(line)), ("run", line.run_id))
        head = [f"{name:<12} {value}" for name, value in (*told, ("logger", line.logger)) if value]
        message = ["", line.whole] if "\n" in line.whole else [f"{'message':<12} {line.whole or line.message}"]
        return "\n".join([*head, *message])

    def _node(self, line: LogLine) -> str:
        return self._names.get(line.node_id) or line.node_id[-8:]

    def _time(self, line: LogLine) -> str:
        """To the millisecond; of another day than the newest line's, the day and the minute."""
        if line.time is None:
            return "–"
        when = line.time.astimezone()
        newest = self._lines[-1].time
        day: date = newest.astimezone().date() if newest else when.date()
        return when.strftime("%H:%M:%S.%f")[:12] if when.date() == day else when.strftime("%m-%d %H:%M")


def log_rows(state: State, choice: Choice, run_id: str = "") -> LogRows:
    """The lines of the chosen level, of one run if it is named."""
    return LogRows(state.lines(Sought(choice.level, run_id=run_id)), state.names)


def _key(line: LogLine) -> str:
    return f"{line.seq}@{line.node_id}"
