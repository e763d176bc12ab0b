"""The log as a table's rows. Ten thousand lines may lie there: a row is made only when it is looked at."""

from collections.abc import Mapping

from tui.drawing.grid import Cell, Column, Row
from tui.drawing.words import LEVEL_STYLES, LEVEL_WORDS, clock_text
from tui.facts.choice import Choice
from tui.facts.nodes import LogLine
from tui.facts.state import State

LOG_COLUMNS = (
    Column("time", 8, 8, 2),
    Column("level", 5, 5, 1),
    Column("node", 10, 14, 3),
    Column("message", 18, 2000),
)


class LogRows:
    """Some lines of the log as rows, each with its number among all that ever came, which is its key."""

    def __init__(self, lines: list[tuple[int, LogLine]], names: Mapping[str, str]) -> None:
        self._lines = lines
        self._names = names

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int, /) -> Row:
        number, line = self._lines[index]
        return log_row(str(number), line, self._names)

    def key(self, index: int, /) -> str:
        return str(self._lines[index][0])


def log_rows(state: State, choice: Choice, run_id: str = "", wanted: str = "") -> LogRows:
    """The lines of the chosen level, of one run if it is named, that have `wanted` in them."""
    names = state.names
    first = state.logs_count - len(state.logs)
    wanted = wanted.casefold()
    lines = [
        (number, line)
        for number, line in enumerate(state.logs, first)
        if choice.wants_line(line, run_id) and (not wanted or wanted in _searched(line, names))
    ]
    return LogRows(lines, names)


def _searched(line: LogLine, names: Mapping[str, str]) -> str:
    return f"{line.message} {names.get(line.node_id, line.node_id)} {line.level} {line.logger}".casefold()


def log_row(key: str, line: LogLine, names: Mapping[str, str]) -> Row:
    """One line of the log."""
    return Row(
        key,
        (
            Cell(clock_text(line.time), "dim"),
            Cell(LEVEL_WORDS.get(line.level, line.level[:5]), LEVEL_STYLES.get(line.level, "") or "dim"),
            Cell(names.get(line.node_id, line.node_id[-8:]), "dim"),
            Cell(line.message, LEVEL_STYLES.get(line.level, "")),
        ),
    )
