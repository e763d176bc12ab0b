"""Data sets, and what their columns are like, as rows: figures, and a small drawing of how the values are spread."""

from tui.drawing.grid import Cell, Column, ListRows, Row
from tui.drawing.words import bar, bytes_text, date_text
from tui.facts.fields import Json, items, measure, moment, number, object_of, safe, text

DATA_COLUMNS = (
    Column("data set", 10, 24),
    Column("kind", 7, 7, 5),
    Column("size", 8, 8, 1, right=True),
    Column("rows", 9, 11, 2, right=True),
    Column("fingerprint", 12, 16, 3),
    Column("added", 16, 16, 4),
    Column("path", 12, 400, 6),
    Column("options", 12, 400, 7),
)
SPREAD_CELLS = 18
STATISTIC_COLUMNS = (
    Column("column", 8, 24),
    Column("type", 6, 14, 5),
    Column("missing", 7, 9, 2, right=True),
    Column("unique", 6, 9, 4, right=True),
    Column("min", 6, 8, 3, right=True),
    Column("mean", 6, 8, 3, right=True),
    Column("max", 6, 8, 3, right=True),
    Column("spread", SPREAD_CELLS, 60, 1),
)
SHARES = " ▁▂▃▄▅▆▇█"
SHARES_SHOWN = 8  # of the most frequent values: as many bars as one tells apart


def data_rows(answer: Json) -> ListRows:
    """What GET /v1/data tells."""
    return ListRows(
        Row(
            text(each, "name"),
            (
                Cell(text(each, "name"), "strong"),
                Cell(text(each, "kind")),
                Cell(bytes_text(number(each, "bytes"))),
                Cell(_count(each, "rows")),
                Cell(text(each, "fingerprint"), "dim"),
                Cell(date_text(moment(each, "added_at")), "dim"),
                Cell(text(each, "path"), "dim"),
                Cell(text(each, "options") if each.get("options") else "", "dim"),
            ),
        )
        for each in items(answer, "data")
    )


def statistic_rows(answer: Json) -> ListRows:
    """The columns of what GET /v1/data/{name} tells; of a folder its classes and kinds of files."""
    told = object_of(answer, "statistics")
    read = number(told, "rows_read")
    rows = ListRows(_column(each, read) for each in items(told, "columns"))
    for key, kind in (("folders", "folder"), ("suffixes", "files")):
        counts = _pairs(told, key)
        whole = sum(count for _, count in counts) or 1
        for name, count in counts:
            share = Cell(f"{bar(count / whole, 10)} {count:,}")
            blank = [Cell("")] * 5
            rows.append(Row(f"{key} {name}", (Cell(name or "no suffix", "strong"), Cell(kind, "dim"), *blank, share)))
    return rows


def statistic_note(answer: Json) -> str:
    """What is to be said of the statistics as a whole: how many rows or files, and what was not looked at."""
    told = object_of(answer, "statistics")
    words = [f"{_count(told, key)} {key}" for key in ("rows", "files") if measure(told, key) is not None]
    left_out = number(told, "columns_left_out")
    words += [text(told, "note")] if text(told, "note") else []
    words += [f"{left_out:,} more columns"] if left_out else []
    return " · ".join(words)


def statistic_in_full(answer: Json, key: str) -> str:
    """Everything that is known of one column."""
    columns = items(object_of(answer, "statistics"), "columns")
    column = next((each for each in columns if text(each, "name") == key), None)
    if column is None:
        return ""
    lines = [f"{name:<12} {text(column, name)}" for name in ("name", "type", "shape", "missing", "unique")]
    lines += [f"{name:<12} {_exact(column, name)}" for name in ("min", "max", "mean", "std") if name in column]
    quartiles = _numbers(column, "quartiles")
    lines += [f"{'quartiles':<12} {'   '.join(f'{value:.6g}' for value in quartiles)}"] if quartiles else []
    top = _pairs(column, "top")
    most = max((count for _, count in top), default=0) or 1
    lines += ["", "the most frequent values"] if top else []
    lines += [f"{value[:24]:<24} {bar(count / most, 20)} {count:,}" for value, count in top]
    return "\n".join(line for line in lines if line == "" or len(line.split()) > 1)


def _column(told: Json, rows_read: int) -> Row:
    figures = [Cell(_exact(told, key, 4) if key in told else "") for key in ("min", "mean", "max")]
    missing = number(told, "missing")
    shape = text(told, "shape")
    kind = f"{text(told, 'type')} {shape}" if shape else text(told, "type")
    return Row(
        text(told, "name"),
        (
            Cell(text(told, "name"), "strong"),
            Cell(kind, "dim"),
            Cell(f"! {missing:,}" if missing else "0", "warn" if missing else "dim"),
            Cell(_count(told, "unique") if told.get("unique") is not None else ""),
            *figures,
            Cell(_spread(told, rows_read - missing)),
        ),
    )


def _spread(told: Json, values: int) -> str:
    """A column's most frequent values as bars, and how much of it the first is; or the box of its quartiles between
    least and most."""
    top = _pairs(told, "top")
    if top:
        most = max(max(count for _, count in top), 1)
        bars = "".join(SHARES[max(round(count / most * 8), 1)] for _, count in top[:SHARES_SHOWN])
        share = f" {top[0][1] / values:.0%}" if 0 < top[0][1] <= values else ""
        return f"{bars:<{min(len(top), SHARES_SHOWN)}}{share} {top[0][0]}"
    return box(measure(told, "min"), _numbers(told, "quartiles"), measure(told, "max"), SPREAD_CELLS)


def box(least: float | None, quartiles: list[float], most: float | None, width: int) -> str:
    """`├──▒▒█▒───┤`: the whole from least to most, the middle half of the values, the median. Empty without figures."""
    if least is None or most is None or len(quartiles) != 3 or not most > least:
        return ""
    first, median, third = (
        min(max(round((value - least) / (most - least) * (width - 1)), 0), width - 1) for value in quartiles
    )
    line = ["├", *"─" * (width - 2), "┤"]
    line[first : third + 1] = "▒" * (third + 1 - first)
    line[median] = "█"
    return "".join(line)


def _count(source: Json, key: str) -> str:
    return f"{number(source, key):,}" if measure(source, key) is not None else "–"


def _exact(source: Json, key: str, digits: int = 6) -> str:
    value = measure(source, key)
    return "–" if value is None else f"{value:.{digits}g}"


def _numbers(source: Json, key: str) -> list[float]:
    value = source.get(key)
    values = [measure({"it": each}, "it") for each in value] if isinstance(value, list) else []
    return [each for each in values if each is not None]


def _pairs(source: Json, key: str) -> list[tuple[str, int]]:
    """`[[value, count] ..]`; whatever else is in it is left out."""
    value = source.get(key)
    pairs = value if isinstance(value, list) else []
    return [
        (safe(str(pair[0])), max(number({"n": pair[1]}, "n"), 0))
        for pair in pairs
        if isinstance(pair, list) and len(pair) == 2
    ]
