"""A report's charts of machines and processes: one for each thing measured, a curve for each node."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from node.cli.report_told import Told, seconds_of

if TYPE_CHECKING:
    from node.exports.plots import Drawing

CHARTS_MAX = 12
_FIRST = ("cpu", "memory", "gpu", "network", "disk")  # what people look at first
_WHOSE = {"host": "machine", "node": "node's process", "worker": "training process"}
_SHOWN_AS = {"bytes": (1e6, "MB")}

Kind = tuple[str, str, str, str]  # scope, key, device, unit


def system(told: Told) -> str:
    from node.exports.report import drawings, note

    by_kind: dict[Kind, list[list[Any]]] = {}
    for row in told.system:
        by_kind.setdefault((row[1], row[2], row[3], row[4]), []).append(row)
    chosen = sorted(by_kind, key=_prominence)[:CHARTS_MAX]
    hidden = len(by_kind) - len(chosen)
    left_out = note(f"{hidden} more things are measured; the record has them.") if hidden else ""
    return drawings(_chart(told, kind, by_kind[kind]) for kind in chosen) + left_out


def _prominence(kind: Kind) -> tuple[int, Kind]:
    return next((place for place, word in enumerate(_FIRST) if word in kind[1]), len(_FIRST)), kind


def _chart(told: Told, kind: Kind, rows: Sequence[Sequence[Any]]) -> "Drawing":
    from node.exports.plots import Series, chart, plain, time_unit

    scope, key, device, unit = kind
    divisor, shown_unit = _SHOWN_AS.get(unit, (1.0, unit))
    start, end = seconds_of(told.run["started_at"]), max(row[5] for row in rows)
    seconds, x_name = time_unit(max(end - start, 0.0))
    by_node: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        by_node.setdefault(row[0], []).append(((row[5] - start) / seconds, row[6] / divisor))
    nodes = sorted(by_node, key=lambda node: (told.name(node), node))
    series = [Series(plain(told.name(node)), by_node[node], False, place) for place, node in enumerate(nodes)]
    what = f"{key.replace('_', ' ')} {device}".strip()
    title = f"{what} of the {_WHOSE.get(scope, scope)}, {shown_unit}"
    return chart(series, title=title, x_name=f"time, {x_name}", width=560, height=240, whole=False)
