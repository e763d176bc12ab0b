"""What the tables about runs say: runs, and one run's participants."""

from collections.abc import Sequence

from tui.drawing.grid import Cell, Column, ListRows, Row
from tui.drawing.words import CROWN, STATE_STYLES, bar, state_sign, value_text
from tui.facts.curves import Curves, Kind
from tui.facts.runs import Participant, Run

BAR_WIDTH = 10
NO_RUNS = "no runs yet: P proposes one"

RUN_COLUMNS = (
    Column("run", 14, 26),
    Column("state", 11, 11),
    Column("round", BAR_WIDTH + 6, BAR_WIDTH + 12),
    Column("accuracy", 8, 8, 1, right=True),
    Column("aggregator", 10, 20, 2),
    Column("loss", 6, 8, 4, right=True),
    Column("term", 4, 4, 5, right=True),
    Column("note", 12, 80, 3),
)
PARTICIPANT_COLUMNS = (
    Column("participant", 12, 24),
    Column("state", 11, 11),
    Column("round", 5, 5, 1, right=True),
    Column("value", 7, 7, 2, right=True),
    Column("samples", 7, 9, 3, right=True),
    Column("voter", 5, 5, 5),
    Column("reason", 10, 80, 4),
)


def run_rows(runs: Sequence[Run]) -> ListRows:
    """One row a run, in the order given."""
    return ListRows(_run_row(run) for run in runs)


def _run_row(run: Run) -> Row:
    style = STATE_STYLES.get(run.state, "")
    note = "waits for your answer" if run.asks_us else run.note or run.reason
    return Row(
        run.run_id,
        (
            Cell(run.name, "strong"),
            Cell(f"{state_sign(run.state)} {run.state}", style),
            Cell(progress_text(run), style),
            Cell(value_text(run.accuracy)),
            Cell(f"{CROWN} {run.aggregator_name}" if run.aggregator else "–", "crown" if run.aggregator else "dim"),
            Cell(value_text(run.loss)),
            Cell(str(run.term), "dim"),
            Cell(note, "warn" if run.asks_us or (run.note and not run.ended) else "dim"),
        ),
    )


def progress_text(run: Run, width: int = BAR_WIDTH) -> str:
    """A bar and the figures behind it."""
    return f"{bar(run.round / run.rounds if run.rounds else 0.0, width)} {run.round}/{run.rounds}"


def participant_rows(run: Run | None, ours: str, curves: Curves | None, kind: Kind | None) -> ListRows:
    """One row a participant: the aggregator first, then by name. `kind`: the curve whose newest value to show."""
    if run is None:
        return ListRows()
    return ListRows(_participant_row(each, run, ours, curves, kind) for each in ordered(run))


def ordered(run: Run) -> list[Participant]:
    """The participants in the order in which they are listed."""
    return sorted(run.participants, key=lambda each: (each.node_id != run.aggregator, each.name, each.node_id))


def name_and_state(each: Participant, run: Run, ours: str) -> tuple[Cell, Cell]:
    """The cells that every table of participants begins with."""
    leads, own = each.node_id == run.aggregator, each.node_id == ours
    return (
        Cell(
            f"{CROWN if leads else ' '} {each.name}{' (us)' if own else ''}",
            "crown" if leads else "self" if own else "",
        ),
        Cell(f"{state_sign(each.state)} {each.state}", STATE_STYLES.get(each.state, "")),
    )


def _participant_row(each: Participant, run: Run, ours: str, curves: Curves | None, kind: Kind | None) -> Row:
    leads = each.node_id == run.aggregator
    value = curves.latest(kind, each.node_id) if curves and kind else None
    reason = each.reason or ("aggregator" if leads else "")
    return Row(
        each.node_id,
        (
            *name_and_state(each, run, ours),
            Cell(str(each.round)),
            Cell(value_text(value)),
            Cell(str(each.samples) if each.samples else "–"),
            Cell("voter" if each.voter else "", "dim"),
            Cell(reason, "crown" if leads and not each.reason else "dim"),
        ),
    )
