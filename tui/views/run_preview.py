"""What there is to say of one run beside the list of all: its facts, one to a line."""

from collections import Counter
from collections.abc import Iterable

from tui.drawing.lines import plain_lines
from tui.drawing.picture import Picture, Span
from tui.drawing.words import CROWN, STATE_STYLES, bytes_text, date_text, seconds_text, state_sign, value_text
from tui.facts.runs import Run
from tui.views.run_list_rows import left_text
from tui.views.run_rows import progress_text

LABEL_WIDTH = 13


def preview(run: Run | None, width: int, height: int) -> Picture:
    """A run's facts, the weightiest first; what does not fit in is left away at the end."""
    if run is None:
        return plain_lines([[Span("no run under the cursor", "dim")]], width, height)
    facts = [
        [Span(run.name, "strong")],
        [Span(f"{state_sign(run.state)} {run.state}  ", STATE_STYLES.get(run.state, "")), Span(progress_text(run, 16))],
        *([[Span(run.note or run.reason, "warn" if run.note else "dim")]] if run.note or run.reason else []),
        *([Span(f"{label:<{LABEL_WIDTH}}", "dim"), Span(value)] for label, value in _facts(run) if value),
    ]
    return plain_lines(facts, width, height)


def _facts(run: Run) -> Iterable[tuple[str, str]]:
    measured = f" ({run.measured_text})" if run.measured_text else ""
    yield "accuracy", value_text(run.accuracy) + measured
    yield "loss", value_text(run.loss) + measured
    yield "left", left_text(run)
    yield "participants", _participants(run)
    yield "aggregator", f"{CROWN} {run.aggregator_name}, term {run.term}" if run.aggregator else ""
    yield "project", " / ".join(filter(None, (run.project, run.experiment)))
    yield "task, data", f"{run.task}, {run.data}"
    yield "proposed", f"{date_text(run.created_at)}{f' by {run.proposer_name}' if run.proposer_name else ''}"
    yield "started", date_text(run.started_at) if run.started_at else ""
    yield "ended", _ended(run) if run.ended_at else ""
    yield "our answer", run.decision
    ways = f"↑ {bytes_text(run.bytes_sent)} ↓ {bytes_text(run.bytes_received)} for it, since this node's start"
    moved = f"{bytes_text(run.bytes_moved)} for its rounds"
    yield "traffic", ways if run.bytes_sent or run.bytes_received else moved if run.bytes_moved else ""
    yield "id", run.run_id


def _participants(run: Run) -> str:
    states = Counter(each.state for each in run.participants)
    told = ", ".join(f"{state_sign(state)} {count} {state.lower()}" for state, count in states.most_common())
    return f"{len(run.participants)}: {told}" if told else ""


def _ended(run: Run) -> str:
    after = "" if run.seconds is None else f" after {seconds_text(run.seconds)}"
    return f"{date_text(run.ended_at)}{after}"
