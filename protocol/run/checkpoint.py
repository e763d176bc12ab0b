"""What a round leaves behind: offers, receipts, reports, checkpoints, acknowledgements, commit certificates.

All of it is signed by the node that says it, so that anybody can prove later who said what. docs/protocol.md §8.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple, TypeVar, get_args

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import AfterValidator, Field

from protocol.errors import RemoteProtocolError
from protocol.keys import BlobId, Hash, NodeId, RunId
from protocol.limits import CHECKPOINT_BYTES_MAX, NODE_ID_CHARACTERS_MAX, ROSTER_NODES_MAX, SIGNED_NOTE_BYTES_MAX
from protocol.remembered import remembered, remembered_bytes
from protocol.signing import Signed, open_signed, sign
from protocol.wire import Wire, hash_of, pack

METRIC_NAME_CHARACTERS_MAX = 80
# What a terminal obeys, what turns the direction of writing, what breaks a line. As in fednode_logging.
_UNFIT_FOR_A_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_CLASS_MARK = "@class="  # between a metric's name and a class (fednode_logging.split_class)
_REMEMBERED_NAMES = 4096  # of metrics: each comes with every note


@lru_cache(maxsize=_REMEMBERED_NAMES)
def is_metric_name(name: str) -> bool:
    """Whether a metric may be called so in what is signed: it stands in everybody's tables."""
    fits = 0 < len(name) <= METRIC_NAME_CHARACTERS_MAX and not name.startswith(_CLASS_MARK)
    return fits and _UNFIT_FOR_A_NAME.search(name) is None


def _check_metric_name(name: str) -> str:
    if not is_metric_name(name):
        raise ValueError(f"a metric's name has 1 to {METRIC_NAME_CHARACTERS_MAX} characters, and no invisible ones")
    return name


HexHash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
HexHashOrNone = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
NodeName = Annotated[str, Field(min_length=1, max_length=NODE_ID_CHARACTERS_MAX)]
Round = Annotated[int, Field(ge=0, le=10_000_000)]
Term = Annotated[int, Field(ge=0, le=2**53)]
Samples = Annotated[int, Field(ge=0, le=2**53)]
MetricName = Annotated[str, AfterValidator(_check_metric_name)]
Metrics = Annotated[dict[MetricName, Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=64)]
UsageName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Usage = Annotated[dict[UsageName, Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=16)]
SpanName = Literal["wait", "train", "encode", "upload", "fetch", "aggregate", "evaluate"]
SPAN_NAMES: tuple[str, ...] = get_args(SpanName)
SPANS_MAX = 8  # in one note: each kind once, and room for one of the round before
Reason = Annotated[str, Field(max_length=500)]
Outcome = Literal["", "finished", "stopped", "failed"]
NOTHING = Hash("")
# Notes of some 600 bytes that are opened again and again, a few of each node and round: ten thousand of them, 20 MB
# with what they say. By their bytes, for anybody can sign notes of 16 KiB.
_REMEMBERED_NOTES_BYTES = 6 * 1024 * 1024
# Of what a whole roster has signed: it comes with the proposal, again with the commit, and from our own journal.
_REMEMBERED_CHECKPOINTS = 4
_REMEMBERED_STARTS = 4  # of the runs that go on at once

SET_ASIDE = "set-aside"  # the code of an update that was fit, and that the run's rule took nothing of (§8.26)
NORM_OUTLIER = "norm-outlier"  # … of one that is too long beside the others (§8.26)
# Refused beside the others, who were measured with it: without it they come to something else.
COMPARED = frozenset({SET_ASIDE, NORM_OUTLIER})

N = TypeVar("N", bound=Wire)


class Span(NamedTuple):
    """What a node was busy with in a round, in all, by its own clocks. On the wire a list, for everybody gets
    everybody's: it takes half of what names would."""

    name: SpanName
    round: Round
    started_at: Annotated[float, Field(ge=0, le=2.5e11, allow_inf_nan=False)]  # since 1970: a year of four digits
    seconds: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
    bytes: Annotated[int, Field(ge=0, le=2**53)]


Spans = Annotated[tuple[Span, ...], Field(max_length=SPANS_MAX)]


class Ready(Wire):
    """I take part in this run."""

    run: HexHash
    node: NodeName
    role: Literal["trainer", "validator", "observer"]
    data_fingerprint: Annotated[str, Field(max_length=64)]
    capacity_class: Annotated[int, Field(ge=0, le=7)]


class Declined(Wire):
    """I do not take part in this run, because …"""

    run: HexHash
    node: NodeName
    code: Annotated[str, Field(max_length=40)]
    reason: Reason


class RunStart(Wire):
    """The first roster and the starting model: the payload of a `run.start` operation."""

    run: HexHash
    roster: Annotated[tuple[bytes, ...], Field(min_length=1, max_length=ROSTER_NODES_MAX)]  # signed Ready notes
    tensor_schema: HexHash
    model: HexHash


class Offer(Wire):
    """I learned this from that base: an update, ready to be fetched."""

    run: HexHash
    node: NodeName
    round: Round
    base: HexHash
    update: HexHash
    update_bytes: Annotated[int, Field(ge=0)]
    samples: Samples
    codec: Annotated[str, Field(max_length=40)]
    metrics: Metrics
    steps: Samples = 0  # of its optimizer in this round, which FedNova divides by; 0 counts as 1
    spans: Spans = ()  # what this node has not told yet of what it was busy with
    usage: Usage = Field(default_factory=dict)  # of its worker while it trained: cpu_percent, memory_bytes …


class Receipt(Wire):
    """I have your update whole: the aggregator's word, which it must account for in the checkpoint."""

    run: HexHash
    term: Term
    round: Round
    node: NodeName
    offer: HexHash


class Report(Wire):
    """What a node measured on its own held-out data with a committed checkpoint; no samples: it had none, and tells
    its spans alone."""

    run: HexHash
    node: NodeName
    round: Round
    checkpoint: HexHash
    samples: Samples
    metrics: Metrics
    spans: Spans = ()


class UpdateEntry(Wire):
    """One receipted update in a checkpoint: used with this weight, or refused for this reason."""

    offer: bytes  # the signed offer as received
    weight: Annotated[int, Field(ge=0, le=2**19)]
    refused: Annotated[str, Field(max_length=40)]  # a code; empty when used
    reason: Reason


class Part(Wire):
    """A range of the parameters and who summed it. One entry today."""

    start: Annotated[int, Field(ge=0)]
    stop: Annotated[int, Field(ge=0)]
    aggregator: NodeName


class Checkpoint(Wire):
    """The result of a round: model, server state, and everything that is needed to recompute them.

    Its name is the hash of its packed body: the same under whatever term it is issued again.
    """

    run: HexHash
    round: Round
    previous: HexHashOrNone
    maker: NodeName
    made_in_term: Term
    tensor_schema: HexHash
    model: HexHash
    difference: HexHashOrNone  # coded, from the previous checkpoint's model; none for the starting model
    server_state: HexHashOrNone
    updates: Annotated[tuple[UpdateEntry, ...], Field(max_length=ROSTER_NODES_MAX)]
    exponents: Annotated[tuple[int, ...], Field(max_length=100_000)]  # of the fixed-point sum, one a tensor
    parts: Annotated[tuple[Part, ...], Field(max_length=64)]
    roster: Annotated[tuple[NodeName, ...], Field(min_length=1, max_length=ROSTER_NODES_MAX)]
    entrants: Annotated[tuple[bytes, ...], Field(max_length=ROSTER_NODES_MAX)]  # signed Ready notes of new ones
    voters: Annotated[tuple[NodeName, ...], Field(min_length=1, max_length=31)]
    rounds: Round
    outcome: Outcome
    reason: Reason


class Issue(Wire):
    """Under my term, this is the checkpoint of that round."""

    run: HexHash
    term: Term
    round: Round
    checkpoint: HexHash


class Ack(Wire):
    """That checkpoint and every chunk of it are durable here, and my term is still the issue's."""

    run: HexHash
    term: Term
    round: Round
    checkpoint: HexHash
    node: NodeName


_TAGS: dict[type[Wire], str] = {
    Ready: "run-ready",
    Declined: "run-declined",
    Offer: "run-offer",
    Receipt: "run-receipt",
    Report: "run-report",
    Checkpoint: "run-checkpoint",
    Issue: "run-issue",
    Ack: "run-ack",
}


def sign_note(key: Ed25519PrivateKey, note: Wire) -> bytes:
    """`note`, one of the classes above, signed for its own purpose."""
    return sign(key, _TAGS[type(note)], note)


def open_ready(raw: bytes) -> Signed[Ready]:
    """The note in `raw`. As every `open_…` here: raises RemoteProtocolError unless it is well formed, rightly signed,
    and signed by the very node that it speaks for."""
    return _by_its_node(_open_note(Ready, raw), "node")


def open_declined(raw: bytes) -> Signed[Declined]:
    return _by_its_node(_open_note(Declined, raw), "node")


def open_offer(raw: bytes) -> Signed[Offer]:
    return _by_its_node(_open_note(Offer, raw), "node")


def open_report(raw: bytes) -> Signed[Report]:
    return _by_its_node(_open_note(Report, raw), "node")


def open_ack(raw: bytes) -> Signed[Ack]:
    return _by_its_node(_open_note(Ack, raw), "node")


def open_receipt(raw: bytes) -> Signed[Receipt]:
    """Signed by the aggregator; `node` is whose update it is. The caller compares the signer."""
    return _open_note(Receipt, raw)


def open_issue(raw: bytes) -> Signed[Issue]:
    """Signed by the aggregator of its term. The caller compares the signer."""
    return _open_note(Issue, raw)


@lru_cache(maxsize=_REMEMBERED_CHECKPOINTS)
def open_checkpoint(raw: bytes) -> Signed[Checkpoint]:
    return _by_its_node(open_signed(Checkpoint, raw, _TAGS[Checkpoint], CHECKPOINT_BYTES_MAX), "maker")


@remembered(_REMEMBERED_STARTS)
def ready_notes(start: RunStart) -> tuple[Ready, ...]:
    """What the nodes of the first roster have signed. Raises RemoteProtocolError as `open_ready`."""
    return tuple(open_ready(raw).body for raw in start.roster)


@lru_cache(maxsize=_REMEMBERED_STARTS)
def starting_checkpoint(start: RunStart, maker: NodeId, voters: tuple[NodeId, ...], rounds: int) -> Checkpoint:
    """Checkpoint 0, which every node makes for itself, alike, from the signed start (§8.2)."""
    return Checkpoint(
        run=start.run,
        round=0,
        previous=NOTHING,
        maker=maker,
        made_in_term=0,
        tensor_schema=start.tensor_schema,
        model=start.model,
        difference=NOTHING,
        server_state=NOTHING,
        updates=(),
        exponents=(),
        parts=(),
        roster=tuple(note.node for note in ready_notes(start)),
        entrants=(),
        voters=voters,
        rounds=rounds,
        outcome="",
        reason="",
    )


@remembered(_REMEMBERED_CHECKPOINTS)
def checkpoint_name(checkpoint: Checkpoint) -> Hash:
    return hash_of(pack(checkpoint))


@remembered(_REMEMBERED_CHECKPOINTS)
def update_blobs(checkpoint: Checkpoint) -> frozenset[BlobId]:
    """The updates that a checkpoint lists."""
    return frozenset(BlobId(open_offer(entry.offer).body.update) for entry in checkpoint.updates)


def checkpoint_blobs(checkpoint: Checkpoint) -> tuple[BlobId, ...]:
    """All blobs of a checkpoint: the model, what it came from, and what the next round needs besides."""
    blobs = (checkpoint.tensor_schema, checkpoint.model, checkpoint.difference, checkpoint.server_state)
    return tuple(BlobId(blob) for blob in blobs if blob)


def majority(voters: Sequence[NodeId] | Sequence[str]) -> int:
    """How many of `voters` are more than half."""
    return len(voters) // 2 + 1


@lru_cache(maxsize=_REMEMBERED_CHECKPOINTS)
def check_certificate(
    acks: tuple[bytes, ...], run: RunId, round_number: int, checkpoint: Hash, voters: tuple[str, ...]
) -> int:
    """The term under which `acks` commit `checkpoint` (§8.6).

    A certificate holds when more than half of the voters signed that the checkpoint is durable with them, all under one
    term. Raises RemoteProtocolError when it does not.
    """
    signers: dict[int, set[str]] = {}
    for raw in acks:
        ack = open_ack(raw).body
        if (ack.run, ack.round, ack.checkpoint) == (run, round_number, checkpoint) and ack.node in voters:
            signers.setdefault(ack.term, set()).add(ack.node)
    for term, nodes in sorted(signers.items()):
        if len(nodes) >= majority(voters):
            return term
    raise RemoteProtocolError(f"The certificate of round {round_number} lacks a majority of the {len(voters)} voters")


@remembered_bytes(_REMEMBERED_NOTES_BYTES)
def _open_note(kind: type[N], raw: bytes) -> Signed[N]:
    """A small signed note. The same bytes come again and again: with each proposal, commit and repetition."""
    return open_signed(kind, raw, _TAGS[kind], SIGNED_NOTE_BYTES_MAX)


def _by_its_node(signed: Signed[Wire], field: str) -> Signed:  # type: ignore[type-arg]
    claimed = getattr(signed.body, field)
    if claimed != signed.node_id:
        raise RemoteProtocolError(f"{signed.node_id} signed a {type(signed.body).__name__} in the name of {claimed}")
    return signed
