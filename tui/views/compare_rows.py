"""What the table that puts runs side by side says: a column for each run, a row for each figure and parameter."""

from collections.abc import Callable, Sequence

from tui.drawing.grid import Cell, Column, ListRows, Row
from tui.drawing.words import STATE_STYLES, bytes_text, counted, seconds_text, state_sign, value_text
from tui.facts.compare import Compared, differing
from tui.facts.parameters import ABSENT

BEST = "★"
LABEL_WIDTH = 24
VALUE_WIDTH, VALUE_WIDTH_MAX = 11, 28  # of a run's column, with the gap before it one more


def in_sight(runs: int, width: int) -> int:
    """How many of so many runs fit into `width` cells, one at least."""
    return min(runs, max((width - LABEL_WIDTH) // (VALUE_WIDTH + 1), 1))


def compare_columns(names: Sequence[str], width: int) -> tuple[Column, ...]:
    """A column for what is compared, and one of equal width for each of the runs with these names."""
    room = (width - LABEL_WIDTH) // max(len(names), 1) - 1
    share = min(max(room, VALUE_WIDTH), VALUE_WIDTH_MAX)
    return (Column("", LABEL_WIDTH, LABEL_WIDTH), *(Column(name, share, share) for name in names))


def compare_rows(runs: Sequence[Compared], of: Sequence[Compared]) -> ListRows:
    """Final figures of `runs`, then the parameters that differ between all those that they are `of`."""
    return ListRows([_title("what came of it", runs), *_outcomes(runs), *_parameters(runs, of)])


def _outcomes(runs: Sequence[Compared]) -> list[Row]:
    states = [
        Cell(f"{state_sign(each.run.state)} {each.run.state}", STATE_STYLES.get(each.run.state, "")) for each in runs
    ]
    participants = [Cell(str(len(each.run.participants) or ABSENT)) for each in runs]
    return [
        _row("state", states),
        _row("rounds", [Cell(f"{each.run.round}/{each.run.rounds}") for each in runs]),
        _row("accuracy", _figures([each.run.accuracy for each in runs], max)),
        _row("loss", _figures([each.run.loss for each in runs], min)),
        _row("time in all", [Cell(seconds_text(each.run.seconds)) for each in runs]),
        _row("time of a round", [Cell(seconds_text(each.round_seconds)) for each in runs]),
        _row("bytes moved here", [Cell(ABSENT if each.bytes is None else bytes_text(each.bytes)) for each in runs]),
        _row("updates refused", [Cell(ABSENT if each.refused is None else str(each.refused)) for each in runs]),
        _row("elections", [Cell(str(each.run.elections)) for each in runs]),
        _row("participants", participants),
    ]


def _figures(values: Sequence[float | None], best_of: Callable[[list[float]], float]) -> list[Cell]:
    """The best is marked, unless all are alike."""
    known = [value for value in values if value is not None]
    best = best_of(known) if len(set(known)) > 1 else None
    return [
        Cell(
            f"{value_text(value)}{f' {BEST}' if value == best and value is not None else ''}",
            "good" if value == best and best is not None else "",
        )
        for value in values
    ]


def _parameters(runs: Sequence[Compared], of: Sequence[Compared]) -> list[Row]:
    given = [each.parameters for each in of if each.parameters is not None]
    if len(given) < len(of):
        return [_title("parameters: not told yet", runs)]
    found = differing(given)
    if not found:
        return [_title("no parameter differs", runs)]
    alike = len({key for parameters in given for key in parameters if key != "name"}) - len(found)
    places = [of.index(each) for each in runs]
    title = f"{counted(len(found), 'parameter')} {'differ' if len(found) > 1 else 'differs'}"
    rows = [_title(title, runs)]
    for key, values in found.items():
        rows.append(_row(key, [Cell(values[at], "dim" if values[at] == ABSENT else "") for at in places]))
    return [*rows, _title(f"{alike} more {'is' if alike == 1 else 'are'} the same", runs)]


def _row(name: str, cells: Sequence[Cell]) -> Row:
    return Row(name, (Cell(name, "dim"), *cells))


def _title(text: str, runs: Sequence[Compared]) -> Row:
    return Row(text, (Cell(text, "heading"), *(Cell("") for _ in runs)))
