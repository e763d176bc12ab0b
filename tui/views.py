"""What each table shows, as rows made from the state. No drawing and no asking happens here."""

from collections.abc import Mapping, Sequence

from tui.curves import Curves, Kind
from tui.facts import Group, LogLine, Peer
from tui.grid import Cell, Column, ListRows, Row
from tui.run_facts import Participant, Round, Run
from tui.state import State
from tui.topology import Place, Scene
from tui.words import (
    CROWN,
    LEVEL_STYLES,
    LEVEL_WORDS,
    STATE_STYLES,
    bar,
    bytes_text,
    clock_text,
    date_text,
    memory_text,
    seconds_text,
    state_sign,
    value_text,
)

BAR_WIDTH = 10

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
ROUND_COLUMNS = (
    Column("round", 5, 5, right=True),
    Column("committed", 9, 9, 2),
    Column("took", 7, 12, 1, right=True),
    Column("aggregator", 10, 20, 4),
    Column("term", 4, 4, 6, right=True),
    Column("updates", 7, 7, right=True),
    Column("bytes", 8, 8, 5, right=True),
    Column("refused", 7, 80, 3),
)
PEER_COLUMNS = (
    Column("node", 16, 24),
    Column("state", 6, 6),
    Column("member", 8, 20, 3),
    Column("cores", 5, 5, 4, right=True),
    Column("load", 5, 5, 5, right=True),
    Column("free memory", 11, 11, 6, right=True),
    Column("free disk", 9, 9, 8, right=True),
    Column("GPUs", 4, 24, 7),
    Column("runs", 4, 30, 2),
    Column("last seen", 16, 16, 9),
    Column("version", 7, 10, 10),
)
LOG_COLUMNS = (
    Column("time", 8, 8, 2),
    Column("level", 5, 5, 1),
    Column("node", 10, 14, 3),
    Column("message", 18, 2000),
)
MEMBER_COLUMNS = (
    Column("member", 10, 24),
    Column("role", 8, 8),
    Column("nodes", 10, 60),
    Column("admitted", 16, 16, 1),
)
INVITATION_COLUMNS = (
    Column("invitation", 10, 16),
    Column("role", 8, 8),
    Column("used", 6, 7, right=True),
    Column("state", 8, 8),
    Column("expires", 16, 16, 1),
    Column("by", 6, 20, 2),
)


def names_of(state: State) -> dict[str, str]:
    """Every node's name by its id, as far as anybody told it."""
    told = {each.node_id: each.name for run in state.runs() for each in run.participants}
    return told | {peer.node_id: peer.name for peer in state.peers.values()}


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
    ordered = sorted(run.participants, key=lambda each: (each.node_id != run.aggregator, each.name, each.node_id))
    return ListRows(_participant_row(each, run, ours, curves, kind) for each in ordered)


def _participant_row(each: Participant, run: Run, ours: str, curves: Curves | None, kind: Kind | None) -> Row:
    leads, own = each.node_id == run.aggregator, each.node_id == ours
    name = f"{CROWN if leads else ' '} {each.name}{' (us)' if own else ''}"
    value = curves.latest(kind, each.node_id) if curves and kind else None
    reason = each.reason or ("aggregator" if leads else "")
    return Row(
        each.node_id,
        (
            Cell(name, "crown" if leads else "self" if own else ""),
            Cell(f"{state_sign(each.state)} {each.state}", STATE_STYLES.get(each.state, "")),
            Cell(str(each.round)),
            Cell(value_text(value)),
            Cell(str(each.samples) if each.samples else "–"),
            Cell("voter" if each.voter else "", "dim"),
            Cell(reason, "crown" if leads and not each.reason else "dim"),
        ),
    )


def round_rows(rounds: Sequence[Round], names: Mapping[str, str]) -> ListRows:
    """One row a committed round, the newest first."""
    return ListRows(_round_row(each, names) for each in rounds)


def _round_row(each: Round, names: Mapping[str, str]) -> Row:
    refused = ", ".join(f"{names.get(node, node[-8:])}: {reason}" for node, reason in each.refused)
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
            Cell(f"{len(each.refused)}: {refused}" if refused else "none", "bad" if refused else "dim"),
        ),
    )


def peer_rows(state: State) -> ListRows:
    """One row a node: ours first, then those that are here, then by name."""
    ordered = sorted(state.peers.values(), key=lambda peer: (not peer.ourselves, not peer.here, peer.name))
    member_names = {m.member_id: m.name for group in state.groups.values() for m in group.members}
    run_names = {run.run_id: run.name for run in state.runs()}
    rows = ListRows()
    for peer in ordered:
        status = Cell("● us" if peer.ourselves else "● here", "good") if peer.here else Cell("✗ away", "bad")
        rows.append(_peer_row(peer, Cell("–") if state.status.is_record else status, member_names, run_names))
    return rows


def _peer_row(peer: Peer, status: Cell, member_names: Mapping[str, str], run_names: Mapping[str, str]) -> Row:
    style = "self" if peer.ourselves else "dim" if status.style == "bad" else ""
    return Row(
        peer.node_id,
        (
            Cell(peer.name + (" (us)" if peer.ourselves else ""), style),
            status,
            Cell(member_names.get(peer.member_id, peer.member_id[-8:]), style),
            Cell(str(peer.cpu_cores) if peer.cpu_cores else "–"),
            Cell("–" if peer.load_1m is None else f"{peer.load_1m:.2f}"),
            Cell(memory_text(peer.memory_free_bytes) if peer.memory_bytes else "–"),
            Cell(bytes_text(peer.disk_free_bytes) if peer.disk_free_bytes else "–"),
            Cell(", ".join(peer.gpus) or "–"),
            Cell(", ".join(run_names.get(run, run[:8]) for run in peer.runs) or "–"),
            Cell(date_text(peer.last_seen), "dim"),
            Cell(peer.version, "dim"),
        ),
    )


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


def member_rows(groups: Sequence[Group]) -> ListRows:
    """One row a member of each group."""
    return ListRows(
        Row(
            f"{group.group_id}/{member.member_id}",
            (
                Cell(member.name, "strong" if member.role == "admin" else ""),
                Cell(member.role),
                Cell(", ".join(member.nodes) or "no node yet"),
                Cell(date_text(member.admitted_at), "dim"),
            ),
        )
        for group in groups
        for member in group.members
    )


def invitation_rows(groups: Sequence[Group]) -> ListRows:
    """One row an invitation of each group."""
    return ListRows(
        Row(
            f"{group.group_id}/{each.invite_id}",
            (
                Cell(each.invite_id),
                Cell(each.role),
                Cell(f"{each.used}/{each.uses}"),
                Cell("revoked" if each.revoked else "used up" if each.used >= each.uses else "open"),
                Cell(date_text(each.expires_at), "dim"),
                Cell(each.by, "dim"),
            ),
        )
        for group in groups
        for each in group.invitations
    )


def scene(state: State, run: Run | None) -> Scene:
    """The nodes as the topology shows them, seen from one run (or from none)."""
    parts = {each.node_id: each for each in run.participants} if run else {}
    names = names_of(state)
    places = []
    for node_id in sorted(state.peers.keys() | parts.keys()):
        peer, part = state.peers.get(node_id), parts.get(node_id)
        there = peer.here if peer else part is not None and part.state not in ("LOST", "FAILED")
        place = Place(
            node_id=node_id,
            name=names.get(node_id, node_id[-8:]),
            ourselves=peer is not None and peer.ourselves,
            here=there or state.status.is_record,
            aggregator=run is not None and not run.ended and node_id == run.aggregator,
            state=part.state if part else "",
        )
        places.append(place)
    return Scene(tuple(places), run.name if run else "")
