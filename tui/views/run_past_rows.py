"""What the run view's tables say: its participants with their last updates, its rounds, what befell it, its parameters.

Also what is marked on its curves, and the lanes of its Gantt chart.
"""

from collections.abc import Mapping, Sequence

from tui.drawing.chart import Mark
from tui.drawing.gantt import Lane
from tui.drawing.grid import Cell, Column, ListRows, Row
from tui.drawing.words import CROWN, bytes_text, clock_text, seconds_text, value_text
from tui.facts.curves import Curves, CurveSet, Kind
from tui.facts.happenings import Happening, Update
from tui.facts.parameters import ABSENT, Parameters
from tui.facts.runs import Participant, Round, Run
from tui.views.run_rows import name_and_state, ordered

PART_COLUMNS = (
    Column("participant", 12, 24),
    Column("state", 11, 11),
    Column("update", 10, 11, 1),
    Column("norm", 6, 6, 2, right=True),
    Column("samples", 7, 9, 3, right=True),
    Column("value", 7, 7, 5, right=True),
    Column("audit", 5, 5, 6, right=True),
    Column("voter", 5, 5, 7),
    Column("reason", 10, 80, 4),
)
ROUND_COLUMNS = (
    Column("round", 5, 5, right=True),
    Column("committed", 9, 9, 2),
    Column("took", 7, 12, 1, right=True),
    Column("aggregator", 10, 20, 4),
    Column("term", 4, 4, 7, right=True),
    Column("updates", 7, 7, right=True),
    Column("bytes", 8, 8, 5, right=True),
    Column("audit", 5, 5, 8, right=True),
    Column("checkpoint", 10, 12, 6),
    Column("refused", 16, 80, 3),
)
HAPPENING_COLUMNS = (
    Column("time", 8, 8, 2),
    Column("round", 5, 5, 1, right=True),
    Column("what", 10, 10),
    Column("node", 8, 20, 3),
    Column("", 10, 200),
)
PARAMETER_COLUMNS = (Column("parameter", 18, 40), Column("value", 8, 400))
# What befalls a run: its sign and style. Those that only say that all goes well are not marked on curves.
SIGNS = {
    "elected": (CROWN, "crown"),
    "lost": ("✗", "bad"),
    "failed": ("!", "bad"),
    "deposed": ("‼", "bad"),
    "silent": ("∅", "bad"),
    "refused": ("⊘", "warn"),
    "stopped": ("■", "warn"),
    "resumed": ("▶", "good"),
    "extended": ("+", "good"),
    "back": ("↺", "good"),
    "started": ("▷", "dim"),
    "finished": ("✓", "dim"),
}
UNKNOWN_SIGN = ("·", "dim")
UNMARKED = frozenset({"started", "finished"})


def part_rows(
    run: Run | None, ours: str, curves: Curves | None, kind: Kind | None, updates: Mapping[str, Update]
) -> ListRows:
    """One row a participant: the aggregator first, then by name. `kind`: the curve whose newest value to show."""
    if run is None:
        return ListRows()
    return ListRows(_part_row(each, run, ours, curves, kind, updates.get(each.node_id)) for each in ordered(run))


def _part_row(
    each: Participant, run: Run, ours: str, curves: Curves | None, kind: Kind | None, update: Update | None
) -> Row:
    leads = each.node_id == run.aggregator
    value = curves.latest(kind, each.node_id) if curves and kind else None
    samples = update.samples if update else each.samples
    told = update.reason if update else ""
    refused = told if update and update.outcome == "refused" else ""
    reason = each.reason or told or ("aggregator" if leads else "")
    return Row(
        each.node_id,
        (
            *name_and_state(each, run, ours),
            Cell(f"{update.round:>3} {update.outcome}" if update else "–", _outcome_style(update)),
            Cell(value_text(update.norm if update else None)),
            Cell(str(samples) if samples else "–"),
            Cell(value_text(value)),
            Cell(_audit_text(update.audited) if update else "–", "dim"),
            Cell("voter" if each.voter else "", "dim"),
            Cell(reason, "bad" if refused else "crown" if leads and not each.reason else "dim"),
        ),
    )


def _outcome_style(update: Update | None) -> str:
    return {"used": "good", "late": "warn", "refused": "bad"}.get(update.outcome if update else "", "dim")


def _audit_text(auditors: int) -> str:
    return f"by {auditors}" if auditors else "none"


def round_rows(rounds: Sequence[Round], names: Mapping[str, str]) -> ListRows:
    """One row a committed round, the newest first."""
    return ListRows(_round_row(each, names) for each in rounds)


def _round_row(each: Round, names: Mapping[str, str]) -> Row:
    refused = ", ".join(f"{names.get(node, node[-8:])}: {reason}" for node, reason in each.refused)
    aside = f"none; {len(each.aside)} set aside" if each.aside else "none"
    return Row(
        str(each.round),
        (
            Cell(str(each.round), "strong"),
            Cell(clock_text(each.committed_at), "dim"),
            Cell(seconds_text(each.seconds)),
            Cell(names.get(each.aggregator, each.aggregator[-8:]), "crown"),
            Cell(str(each.term), "dim"),
            Cell(str(each.updates_used)),
            Cell(bytes_text(each.bytes)),
            Cell(_audit_text(each.audited), "dim"),
            Cell(each.checkpoint[:12], "dim"),
            Cell(f"{len(each.refused)}: {refused}" if refused else aside, "bad" if refused else "dim"),
        ),
    )


def round_text(each: Round, updates: Sequence[Update], names: Mapping[str, str]) -> str:
    """All about a round: its checkpoint, and what became of every update."""
    head = (
        ("committed", clock_text(each.committed_at)),
        ("took", seconds_text(each.seconds)),
        ("aggregator", f"{names.get(each.aggregator, each.aggregator)}, term {each.term}"),
        ("moved here", bytes_text(each.bytes)),
        ("audited", f"by {each.audited} voters, who recompute it before they acknowledge" if each.audited else "no"),
        ("checkpoint", each.checkpoint),
        ("model", each.model),
    )  # fmt: skip
    lines = [f"{name:<12} {value}" for name, value in head] + [""]
    lines += [
        f"{names.get(update.node_id) or update.name:<16} {update.outcome:<8} {update.samples:>8} samples"
        f" {bytes_text(update.bytes):>9}{f'  norm {value_text(update.norm)}' if update.norm is not None else ''}"
        f"{f'  {update.reason}' if update.reason else ''}"
        for update in updates
    ]
    if not updates:
        lines += [f"refused {names.get(node, node)}: {reason}" for node, reason in each.refused]
        lines += [f"set aside {names.get(node, node)}" for node in each.aside]
        lines += ["what became of each update is not recorded here"]
    return "\n".join(lines)


def happening_rows(happenings: Sequence[Happening]) -> ListRows:
    """What befell the run, the newest first."""
    return ListRows(_happening_row(index, each) for index, each in reversed(list(enumerate(happenings))))


def _happening_row(index: int, each: Happening) -> Row:
    sign, style = SIGNS.get(each.kind, UNKNOWN_SIGN)
    return Row(
        str(index),
        (
            Cell(clock_text(each.at), "dim"),
            Cell(str(each.round)),
            Cell(f"{sign} {each.kind}", style),
            Cell(each.name or "the run"),
            Cell(each.text, "dim"),
        ),
    )


def marks_of(
    happenings: Sequence[Happening], curves: CurveSet | None, commits: Mapping[int, float]
) -> tuple[Mark, ...]:
    """What is marked on these curves, the weightiest first where several stand in one place. `commits`: when rounds
    were committed, in seconds since 1970."""
    if curves is None:
        return ()
    order = list(SIGNS)
    found = []
    for each in happenings:
        at = each.at.timestamp() if each.at else None
        place = curves.place_of(each.round, at, _share_of(each.round, at, commits))
        if each.kind not in UNMARKED and place is not None:
            found.append((order.index(each.kind) if each.kind in SIGNS else len(order), place, each))
    found.sort(key=lambda mark: mark[0])
    return tuple(Mark(place, *SIGNS.get(each.kind, UNKNOWN_SIGN), each.words) for _, place, each in found)


def _share_of(round_number: int, at: float | None, commits: Mapping[int, float]) -> float:
    """How much of a round was over at that time; half of it where that is not known."""
    began, ended = commits.get(round_number - 1), commits.get(round_number)
    if at is None or began is None or ended is None or ended <= began:
        return 0.5
    return min(max((at - began) / (ended - began), 0.0), 1.0)


def legend_of(happenings: Sequence[Happening]) -> str:
    """The signs on the curves, each with what it means."""
    kinds = {each.kind for each in happenings} - UNMARKED
    return "  ".join(f"{SIGNS[kind][0]} {kind}" for kind in SIGNS if kind in kinds)


def parameter_rows(parameters: Parameters | None) -> ListRows:
    """One row a parameter."""
    return ListRows(
        Row(name, (Cell(name), Cell(value, "dim" if value == ABSENT else "strong")))
        for name, value in (parameters or {}).items()
    )


def lanes_of(run: Run, ours: str) -> tuple[Lane, ...]:
    """A lane for each participant, in the order in which they are listed."""
    return tuple(
        Lane(
            each.node_id,
            f"{CROWN if each.node_id == run.aggregator else ' '} {each.name}",
            "crown" if each.node_id == run.aggregator else "self" if each.node_id == ours else "",
        )
        for each in ordered(run)
    )
