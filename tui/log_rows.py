"""The log as a table's rows. Ten thousand lines may lie there: a row is made only when it is looked at."""

from collections.abc import Mapping

from tui.choice import Choice
from tui.facts import LogLine
from tui.grid import Row
from tui.state import State
from tui.views import log_row, names_of


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
    names = names_of(state)
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
