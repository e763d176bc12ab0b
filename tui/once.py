"""One look without a screen: the state of things as text or JSON, for scripts and for terminals that are none."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tui.drawing.grid import Column, ListRows, fit, heading, line
from tui.drawing.picture import Line
from tui.facts.choice import Choice
from tui.facts.state import State
from tui.views.node_rows import PEER_COLUMNS, peer_rows
from tui.views.run_rows import PARTICIPANT_COLUMNS, RUN_COLUMNS, participant_rows, run_rows

TEXT_WIDTH = 120


def as_json(snapshot: Mapping[str, Any]) -> str:
    """The snapshot as the node gave it, indented."""
    return json.dumps({key: value for key, value in snapshot.items() if key != "type"}, indent=2)


def as_text(snapshot: Mapping[str, Any], width: int = TEXT_WIDTH) -> str:
    """Runs, the participants of the run most worth a look, and nodes, as tables of plain text."""
    state = State()
    state.apply(snapshot, 0.0)
    run = Choice().run(state)
    status = state.status
    lines = [f"{status.name or 'a node'}{' in ' + ', '.join(status.groups) if status.groups else ''}", ""]
    lines += _table(RUN_COLUMNS, run_rows(state.runs()), width)
    if run is not None:
        parts = participant_rows(run, status.node_id, None, None)
        lines += ["", f"participants of {run.name}", *_table(PARTICIPANT_COLUMNS, parts, width)]
    lines += ["", *_table(PEER_COLUMNS, peer_rows(state), width)]
    return "\n".join(text.rstrip() for text in lines)


def _table(columns: Sequence[Column], rows: ListRows, width: int) -> list[str]:
    fitted = fit(columns, rows, width)
    return [_plain(heading(fitted, width)), *(_plain(line(row, fitted, width)) for row in rows)]


def _plain(drawn: Line) -> str:
    return "".join(span.text for span in drawn)
