"""What the plain table of nodes says, and what the topology shows of them."""

from collections.abc import Mapping

from tui.drawing.grid import Cell, Column, ListRows, Row
from tui.drawing.topology import Place, Scene, steady
from tui.drawing.words import bytes_text, date_text, memory_text
from tui.facts.nodes import Link, Peer
from tui.facts.runs import Run
from tui.facts.state import State
from tui.views.node_card import member_names

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


def peer_rows(state: State) -> ListRows:
    """One row a node, in their order."""
    members, run_names = member_names(state), names_of_runs(state)
    return ListRows(_peer_row(state, peer, members, run_names) for peer in in_order(state))


def in_order(state: State) -> list[Peer]:
    """The nodes as every table lists them: ours first, then those that are here, then by name."""
    return sorted(state.peers.values(), key=lambda peer: (not peer.ourselves, not peer.here, peer.name))


def presence_cell(state: State, peer: Peer) -> Cell:
    """Whether a node is here; of a record nobody can say."""
    if state.status.is_record:
        return Cell("–")
    return Cell("● us" if peer.ourselves else "● here", "good") if peer.here else Cell("✗ away", "bad")


def presence_style(state: State, peer: Peer) -> str:
    """The style of a node's name: who is away is quiet."""
    return "self" if peer.ourselves else "" if peer.here or state.status.is_record else "dim"


def names_of_runs(state: State) -> Mapping[str, str]:
    return {run.run_id: run.name for run in state.runs()}


def runs_text(peer: Peer, run_names: Mapping[str, str]) -> str:
    """The runs that a node takes part in."""
    return ", ".join(run_names.get(run, run[:8]) for run in peer.runs) or "–"


def _peer_row(state: State, peer: Peer, members: Mapping[str, str], run_names: Mapping[str, str]) -> Row:
    style = presence_style(state, peer)
    return Row(
        peer.node_id,
        (
            Cell(peer.name + (" (us)" if peer.ourselves else ""), style),
            presence_cell(state, peer),
            Cell(members.get(peer.member_id, peer.member_id[-8:]), style),
            Cell(str(peer.cpu_cores) if peer.cpu_cores else "–"),
            Cell("–" if peer.load_1m is None else f"{peer.load_1m:.2f}"),
            Cell(memory_text(peer.memory_free_bytes) if peer.memory_bytes else "–"),
            Cell(bytes_text(peer.disk_free_bytes) if peer.disk_free_bytes else "–"),
            Cell(", ".join(peer.gpus) or "–"),
            Cell(runs_text(peer, run_names)),
            Cell(date_text(peer.last_seen), "dim"),
            Cell(peer.version, "dim"),
        ),
    )


def scene(state: State, run: Run | None) -> Scene:
    """The nodes as the topology shows them, seen from one run (or from none)."""
    parts = {each.node_id: each for each in run.participants} if run else {}
    names, members = state.names, member_names(state)
    places = []
    for node_id in sorted(state.peers.keys() | parts.keys()):
        peer, part = state.peers.get(node_id), parts.get(node_id)
        there = peer.here if peer else part is not None and part.state not in ("LOST", "FAILED")
        link = peer.link if peer else Link()
        place = Place(
            node_id=node_id,
            name=names.get(node_id, node_id[-8:]),
            ourselves=peer is not None and peer.ourselves,
            here=there or state.status.is_record,
            aggregator=run is not None and not run.ended and node_id == run.aggregator,
            state=part.state if part else "",
            member=members.get(peer.member_id, "") if peer else "",
            rtt_s=link.rtt_s,
            rate=link.rate,
            relayed=link.path == "relayed",
        )
        places.append(steady(place))
    return Scene(tuple(places), run.name if run else "")
