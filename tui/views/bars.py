"""The lines of text around the tables: the top bar, the notice, a run's facts. Pure."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len

from tui.drawing.lines import plain_lines, spaced
from tui.drawing.picture import Picture, Span
from tui.drawing.words import (
    CROWN,
    STATE_STYLES,
    bytes_text,
    counted,
    date_text,
    duration_text,
    seconds_text,
    shortened,
    state_sign,
    value_text,
)
from tui.facts.runs import Run
from tui.facts.state import Played, State
from tui.views.run_rows import progress_text

WIDTH_FOR_ALL_NAMES = 118  # below it only the view that is shown has its name in the top bar
DOT = Span(" · ", "dim")


def top_lines(
    state: State, tabs: Sequence[tuple[str, str]], view: str, source: str, width: int, height: int, *, paused: bool
) -> Picture:
    """The top bar: the views on the left, whom we look at on the right; with a second line, figures of it all."""
    shown = [span for _, span in _tab_spans(state, tabs, view, width)]
    lines = [spaced(shown, _whom(state, source, width, paused=paused), width)]
    if height > 1:
        lines.append(spaced(_figures(state), _own_figures(state), width))
    return Picture(width, height, tuple(lines))


def tab_at(state: State, tabs: Sequence[tuple[str, str]], view: str, width: int, x: int) -> str:
    """The view whose tab is at this column of the top bar, or nothing."""
    for name, span in _tab_spans(state, tabs, view, width):
        x -= cell_len(span.text)
        if x < 0:
            return name
    return ""


def _tab_spans(state: State, tabs: Sequence[tuple[str, str]], view: str, width: int) -> Iterator[tuple[str, Span]]:
    """What the top bar begins with, each piece with the view that it opens."""
    yield "", Span(" fednode ", "key")
    waiting = len(state.inbox())
    for key, name in tabs:
        label = f" {key} {name}" if name == view or width >= WIDTH_FOR_ALL_NAMES else f" {key}"
        badge = f"({waiting})" if name == "inbox" and waiting else ""
        yield name, Span(f"{label}{badge} ", "here" if name == view else "notice" if badge else "")


def _whom(state: State, source: str, width: int, *, paused: bool) -> list[Span]:
    status = state.status
    signs = {
        "live": Span("● live", "good"),
        "absent": Span("✗ away", "bad"),
        "connecting": Span("◌ asking", "warn"),
    }
    sign = Span("■ stopped", "dim") if source else signs[state.connection.state]
    if state.played is not None:
        sign = _played(state.played)
    spans = [Span("‖ paused", "warn") if paused else sign, Span("  "), Span(source or status.name, "self")]
    if width >= 100 and status.groups:
        spans += [Span(" in ", "dim"), Span(", ".join(status.groups), "strong")]
    return [*spans, Span(" ")]


def _played(played: Played) -> Span:
    """Where a replay stands, and how it goes on."""
    place = f"{duration_text(played.at_s)} of {duration_text(played.length_s)}"
    if played.at_s >= played.length_s:
        return Span(f"■ end {place}", "dim")
    return Span(f"‖ held {place}", "warn") if played.is_held else Span(f"▶ {played.speed:g}× {place}", "good")


def _figures(state: State) -> list[Span]:
    here = sum(peer.here for peer in state.peers.values())
    runs = state.runs()
    active = sum(not run.ended for run in runs)
    asking = sum(run.asks_us for run in runs)
    nodes = counted(len(state.peers), "node")
    spans = [Span(f" {nodes}" if state.status.is_record else f" {nodes}, {here} here"), DOT]
    known = max(state.runs_total, len(runs))
    spans += [Span(f"{known:,} {'run' if known == 1 else 'runs'}, {active} going on")]
    if asking:
        spans += [DOT, Span(f"{counted(asking, 'run waits', 'runs wait')} for your answer", "warn")]
    return spans


def _own_figures(state: State) -> list[Span]:
    status = state.status
    if status.is_record:
        return []
    moved = f"traffic ↑ {bytes_text(status.bytes_sent)} ↓ {bytes_text(status.bytes_received)}"
    spans = [Span(moved, "dim")]
    if status.refused_at_door:
        spans += [DOT, Span(f"{counted(status.refused_at_door, 'stranger')} refused", "warn")]
    return [*spans, Span(" ")]


def notice(state: State) -> Span | None:
    """What must not be overlooked, or nothing."""
    connection = state.connection
    if connection.state == "absent":
        tries = f", try {connection.attempt}" if connection.attempt > 1 else ""
        return Span(f"✗ node is not answering – retrying{tries} ({connection.why})", "alarm")
    if connection.state == "connecting":
        return Span("◌ asking the node how things are", "notice")
    asking = [run for run in state.runs() if run.asks_us]
    if asking and state.played is None:
        more = f" (and {len(asking) - 1} more)" if len(asking) > 1 else ""
        who = f" by {asking[0].proposer_name}" if asking[0].proposer_name else ""
        return Span(f"? run {asking[0].name}{who} waits for your answer{more}: a accepts, x declines", "notice")
    return None


def notice_line(span: Span | None, width: int, height: int) -> Picture:
    """The notice over the whole width."""
    text = f" {shortened(span.text, width - 2)} " if span else ""
    style = span.style if span else ""
    return Picture(width, height, ((Span(text + " " * (width - cell_len(text)), style),),) * height)


def run_lines(run: Run | None, width: int, height: int) -> Picture:
    """A run's facts, the weightiest first."""
    if run is None:
        return plain_lines([[Span("no run yet: P proposes one", "dim")]], width, height)
    first = [
        Span(run.name, "strong"),
        Span(f"  {state_sign(run.state)} {run.state}", STATE_STYLES.get(run.state, "")),
        Span(f"  {progress_text(run, 16)}"),
        Span("  accuracy ", "dim"),
        Span(value_text(run.accuracy), "strong"),
        Span("  loss ", "dim"),
        Span(value_text(run.loss), "strong"),
        *([Span(f"  by {run.measured_text}", "dim")] if run.measured_text else []),
    ]
    leader = [Span(f"{CROWN} {run.aggregator_name}", "crown")] if run.aggregator else [Span("no aggregator", "dim")]
    moved = f"for it ↑ {bytes_text(run.bytes_sent)} ↓ {bytes_text(run.bytes_received)}"
    second = [
        *leader,
        Span(f" aggregator, term {run.term}, {counted(run.elections, 'election')}" if run.aggregator else "", "dim"),
        DOT,
        Span(f"task {run.task}, data {run.data}"),
        DOT,
        Span(f"proposed by {run.proposer_name}" if run.proposer_name else "proposer unknown"),
        *([DOT, Span(moved, "dim")] if run.bytes_sent or run.bytes_received else []),  # counted since the node's start
    ]
    third = [
        Span(_when(run), "dim"),
        DOT,
        Span(f"our answer: {run.decision or 'none'}", "warn" if run.asks_us else "dim"),
    ]
    if run.project:
        third += [DOT, Span("/".join(filter(None, (run.project, run.experiment))), "dim")]
    lies = "; ".join(f"{name} lied: {reason}" for name, reason in run.liars)
    told = "; ".join(filter(None, (lies, run.note or run.reason)))
    last = [Span(f"{'!' if run.note or lies else '–'} {told}", "warn")] if told else []
    order = [first, last, second, third] if told and height < 4 else [first, second, third, last]
    return plain_lines(order, width, height)


def _when(run: Run) -> str:
    if run.started_at is None:
        return f"proposed {date_text(run.created_at)}"
    if run.ended_at is None:
        return f"started {date_text(run.started_at)}"
    return f"ended {date_text(run.ended_at)} after {seconds_text(run.seconds)}"
