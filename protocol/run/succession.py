"""What comes after a checkpoint, and who may vote then: rules for roster and voters. docs/protocol.md §6.4, §8.13.

Voters change by one node at a time. Then any majority of the old and any of the new ones have a node in common, and
what holds for one set of voters holds here (Raft's membership changes by single servers; Ongaro, 2014, §4.1).
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from protocol.errors import RemoteProtocolError
from protocol.keys import NodeId
from protocol.limits import VOTERS_MAX
from protocol.remembered import remembered
from protocol.run.checkpoint import Checkpoint, Part, Ready, open_ready
from protocol.run.events import Combined

# Shrinking stops here: of two voters none may be away.
VOTERS_MIN = 3
_REMEMBERED = 8  # checkpoints: stored and committed, of the few runs that go on at once


def differ_by_one_at_most(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether at most one node was taken in or put out."""
    return len(set(before) ^ set(after)) <= 1


@remembered(_REMEMBERED)
def check_roster(checkpoint: Checkpoint, first: Mapping[NodeId, Ready]) -> Mapping[NodeId, Ready]:
    """The ready notes of a checkpoint's roster. `first` are the start's.

    Raises RemoteProtocolError unless everybody in the roster has signed that it is ready for this very run (§6.4).
    """
    notes = dict(first)
    for raw in checkpoint.entrants:
        note = open_ready(raw).body
        if note.run != checkpoint.run:
            raise RemoteProtocolError("An entrant's ready note is for another run")
        notes[NodeId(note.node)] = note
    roster = [NodeId(node) for node in checkpoint.roster]
    if len(set(roster)) != len(roster) or not notes.keys() >= set(roster):
        raise RemoteProtocolError(
            "A checkpoint's roster names a node twice, or one that has not signed that it is ready"
        )
    return {node: notes[node] for node in roster}


@remembered(_REMEMBERED)
def check_voters(checkpoint: Checkpoint, notes: Mapping[NodeId, Ready]) -> None:
    """Voters are nodes of the roster, each once, and no observers. Raises RemoteProtocolError."""
    voters = [NodeId(node) for node in checkpoint.voters]
    able = all(node in notes and notes[node].role != "observer" for node in voters)
    if len(set(voters)) != len(voters) or not able:
        raise RemoteProtocolError("A checkpoint's voters are not all different nodes of its roster that may vote")


def stop_after(base: Checkpoint, base_name: str, maker: str, term: int, reason: str) -> Checkpoint:
    """The entry that ends a run by a stop: all as in `base`, one round on (§8.9)."""
    update = {
        "round": base.round + 1,
        "previous": base_name,
        "maker": maker,
        "made_in_term": term,
        "difference": "",
        "updates": (),
        "exponents": (),
        "parts": (),
        "rounds": base.rounds + 1,
        "outcome": "stopped",
        "reason": reason,
    }
    return base.model_copy(update=update)


def check_stop(checkpoint: Checkpoint, base: Checkpoint) -> None:
    """Raise RemoteProtocolError when a stop changes more than the length of the run."""
    said = checkpoint
    if said != stop_after(base, said.previous, said.maker, said.made_in_term, said.reason):
        raise RemoteProtocolError("A stop changes the model, the roster or the voters")


@dataclass(frozen=True, slots=True)
class Members:
    """Who is in the next checkpoint: `entrants` are the signed ready notes of those whom the start does not name."""

    roster: tuple[str, ...]
    entrants: tuple[bytes, ...]
    voters: tuple[str, ...]


def next_members(
    base: Checkpoint,
    *,
    first: Set[str],
    asked: Mapping[NodeId, bytes],
    gone: Set[str],
    candidates: Iterable[NodeId],
    listed: Set[str],
) -> Members:
    """Who was lost for long leaves, others move up, who has asked is taken in (§6.4, §8.13).

    Args:
        base: the committed checkpoint that the next one builds on.
        first: the nodes of the start.
        asked: signed ready notes of nodes that want to be taken in.
        gone: nodes of the roster that have been silent for longer than the grace period.
        candidates: nodes that live and may vote, by rank.
        listed: nodes whose updates the checkpoint lists; they stay, for a list of strangers could not be checked.
    """
    voters = next_voters(base.voters, gone, candidates)
    staying = [node for node in base.roster if node not in gone or node in voters or node in listed]
    roster = tuple(dict.fromkeys([*staying, *asked]))
    notes: dict[str, bytes] = {open_ready(raw).body.node: raw for raw in base.entrants}
    notes.update({str(node): raw for node, raw in asked.items()})
    return Members(roster, tuple(notes[node] for node in roster if node not in first), voters)


def checkpoint_of(
    made: Combined, base: Checkpoint, base_name: str, members: Members, *, maker: str, rounds: int
) -> Checkpoint:
    """The entry of a round that was combined from `base`, by `maker` in the term of `made`; the run lasts `rounds`."""
    return Checkpoint(
        run=base.run,
        round=made.round,
        previous=base_name,
        maker=maker,
        made_in_term=made.term,
        tensor_schema=base.tensor_schema,
        model=made.model,
        difference=made.difference,
        server_state=made.server_state,
        updates=made.entries,
        exponents=made.exponents,
        parts=(Part(start=0, stop=made.parameters, aggregator=maker),),
        roster=members.roster,
        entrants=members.entrants,
        voters=members.voters,
        rounds=rounds,
        outcome="finished" if made.round >= rounds else "",
        reason="",
    )


def next_voters(voters: Sequence[str], gone: Set[str], candidates: Iterable[NodeId]) -> tuple[str, ...]:
    """The voters of the next checkpoint: one fewer, one more, or the same (§8.13)."""
    lost = [node for node in voters if node in gone]
    others = [node for node in candidates if node not in voters]
    if lost and len(voters) > VOTERS_MIN:
        return tuple(node for node in voters if node != lost[0])
    if others and len(voters) < VOTERS_MAX:
        return (*voters, others[0])
    return tuple(voters)
