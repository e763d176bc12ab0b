"""One node in a few lines: who it is, how it is, what it does, what it has, and how the way to it is. Pure."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rich.cells import cell_len

from tui.drawing.lines import plain_lines
from tui.drawing.picture import Picture, Span
from tui.drawing.words import (
    CROWN,
    bytes_text,
    clock_text,
    counted,
    date_text,
    memory_text,
    rtt_text,
    state_sign,
)
from tui.facts.nodes import Link, Peer
from tui.facts.runs import Participant, Run
from tui.facts.state import State

LABEL_WIDTH = 8


class Fact(NamedTuple):
    label: str
    text: str
    style: str = ""


def card(state: State, node_id: str, width: int, height: int) -> Picture:
    """The node's facts, the weightiest first, as many as there are lines; a long one goes on in the next line where
    there are lines to spare."""
    facts = list(node_facts(state, node_id))
    lines: list[list[Span]] = []
    spare = height - len(facts)
    for fact in facts:
        pieces = _wrapped(fact.text, width - LABEL_WIDTH - 1, 1 + max(spare, 0))
        spare -= len(pieces) - 1
        for index, piece in enumerate(pieces):
            label = fact.label if index == 0 else ""
            lines.append([Span(f"{label:<{LABEL_WIDTH}} ", "dim"), Span(piece, fact.style)])
    return plain_lines(lines, width, height)


def node_facts(state: State, node_id: str) -> Iterator[Fact]:
    """What is known of a node, the weightiest first."""
    peer = state.peers.get(node_id)
    if peer is None:
        yield Fact("state", "in none of our groups" if node_id else "no node chosen", "dim")
    else:
        yield _presence(state, peer)
        yield Fact("member", _member(state, peer))
    yield Fact("runs", _parts(state, node_id) or "in none", "" if _parts(state, node_id) else "dim")
    if peer is not None:
        yield from _what_it_has(state, peer)
    yield Fact("id", node_id, "dim")
    if peer is not None:
        yield Fact("address", ", ".join(peer.addresses) or "unknown", "dim")


def _presence(state: State, peer: Peer) -> Fact:
    seen = f"{date_text(peer.last_seen)[:10]} {clock_text(peer.last_seen)}" if peer.last_seen else "never"
    if state.status.is_record:
        return Fact("state", f"as recorded {seen}", "dim")
    if peer.ourselves:
        return Fact("state", "● our own node", "self")
    return Fact("state", "● here" if peer.here else f"✗ away, last seen {seen}", "good" if peer.here else "bad")


def _what_it_has(state: State, peer: Peer) -> Iterator[Fact]:
    if not peer.ourselves:
        yield Fact("link", link_text(peer.link) or "no connection", "" if peer.link.path else "dim")
    machine, free = machine_texts(peer)
    yield Fact("machine", machine, "" if free else "dim")
    if free:
        yield Fact("free", free)
    version = f"version {peer.version}" if peer.version else "version not told yet"
    yield Fact("has", f"{counted(peer.data_sets, 'data set')}, {version}")
    yield Fact(
        "groups", ", ".join(state.groups[each].name if each in state.groups else each[:8] for each in peer.groups)
    )


def _member(state: State, peer: Peer) -> str:
    for group in state.groups.values():
        for member in group.members:
            if member.member_id == peer.member_id:
                others = len(member.nodes) - 1
                return f"{member.name}, {member.role}" + (f", with {counted(others, 'more node')}" if others else "")
    return peer.member_id[-8:] or "unknown"


def _parts(state: State, node_id: str) -> str:
    """Its part in each run that goes on; where none does, in the newest ones that it was in."""
    parts = [(run, each) for run in state.runs() for each in run.participants if each.node_id == node_id]
    active = sorted(((run, each) for run, each in parts if not run.ended), key=lambda part: part[0].state != "RUNNING")
    told = "; ".join(_part(run, each) for run, each in active or parts[:1])
    left_out = len(parts) - len(active or parts[:1])
    return told + (f" (and {left_out} that ended)" if left_out else "")


def _part(run: Run, each: Participant) -> str:
    crown = f"{CROWN} aggregator, " if each.node_id == run.aggregator and not run.ended else ""
    reason = f" ({each.reason})" if each.reason else ""
    return f"{run.name}: {crown}{state_sign(each.state)} {each.state.lower()}{reason}"


def link_text(link: Link) -> str:
    """How the way to a node is: its time, what goes through it, and how it goes."""
    words = [rtt_text(link.rtt_s)] if link.rtt_s is not None else []
    if link.sent_per_s is not None and link.received_per_s is not None:
        words.append(f"↑ {bytes_text(round(link.sent_per_s))}/s ↓ {bytes_text(round(link.received_per_s))}/s")
    elif link.path:
        words.append(f"↑ {bytes_text(link.bytes_sent)} ↓ {bytes_text(link.bytes_received)}")
    words += [link.path] if link.path else []
    return ", ".join([*words, *(["blobs over libp2p"] if link.blobs_by == "libp2p" else [])])


def machine_texts(peer: Peer) -> tuple[str, str]:
    """What its machine is, and what of it is free."""
    if not peer.cpu_cores:
        return "not told yet", ""
    load = "" if peer.load_1m is None else f", load {peer.load_1m:.2f}"
    gpus = f", {', '.join(peer.gpus)}" if peer.gpus else ""
    memory = f"{memory_text(peer.memory_free_bytes)} of {memory_text(peer.memory_bytes)} memory"
    disk = f", {bytes_text(peer.disk_free_bytes)} disk" if peer.disk_free_bytes else ""
    return f"{counted(peer.cpu_cores, 'core')}{load}{gpus}", memory + disk


def member_names(state: State) -> Mapping[str, str]:
    return {m.member_id: m.name for group in state.groups.values() for m in group.members}


def _wrapped(text: str, width: int, lines_max: int) -> list[str]:
    """`text` in at most so many lines, broken between words; the last one has the rest, however long."""
    lines: list[str] = []
    while len(lines) + 1 < lines_max and cell_len(text) > width > 0:
        at = text.rfind(" ", 0, width + 1)
        at = at if at > 0 else width
        lines.append(text[:at])
        text = text[at:].lstrip()
    return [*lines, text]
