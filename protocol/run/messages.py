"""What the nodes of a run say to each other over their control streams. docs/protocol.md §7 and §8.

The stream authenticates the sender; what must be proven to third parties is signed besides (protocol.run.checkpoint).
"""

from typing import Annotated, Literal

from pydantic import Field

from protocol.fields import Text
from protocol.limits import CHECKPOINT_BYTES_MAX, ROSTER_NODES_MAX, SIGNED_NOTE_BYTES_MAX
from protocol.run.checkpoint import HexHash, HexHashOrNone, NodeName, Round, Term
from protocol.wire import Wire

CHANGES_MAX = 64  # in one commit; who has missed more asks again
FAILURE_CHARACTERS_MAX = 300  # an exception's kind, its place and the round, or a sentence of fednode's own

Note = Annotated[bytes, Field(max_length=SIGNED_NOTE_BYTES_MAX)]
SignedCheckpoint = Annotated[bytes, Field(max_length=CHECKPOINT_BYTES_MAX)]
OneLine = Annotated[str, Field(min_length=1, max_length=FAILURE_CHARACTERS_MAX, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class PreVoteRequest(Wire):
    """Would you vote for me in `term`? My newest stored checkpoint is this one."""

    kind: Literal["prevote"] = "prevote"
    run: HexHash
    term: Term
    stored_term: Term
    stored_round: Round


class PreVoteReply(Wire):
    """`term` is the one asked about when granted, else the replier's own."""

    kind: Literal["prevote-reply"] = "prevote-reply"
    run: HexHash
    term: Term
    granted: bool


class VoteRequest(Wire):
    kind: Literal["vote"] = "vote"
    run: HexHash
    term: Term
    stored_term: Term
    stored_round: Round


class VoteReply(Wire):
    kind: Literal["vote-reply"] = "vote-reply"
    run: HexHash
    term: Term
    granted: bool


class Heartbeat(Wire):
    """I am the aggregator of `term`. The newest committed checkpoint is this one, if any is.

    `opened` says that it was committed under this very term, so that the next round is open. `states` has a letter
    for each node of the roster, in its order (see protocol.run.events.STATE_LETTERS).
    """

    kind: Literal["heartbeat"] = "heartbeat"
    run: HexHash
    term: Term
    committed_round: Round
    committed: HexHashOrNone
    opened: bool
    states: Annotated[str, Field(max_length=ROSTER_NODES_MAX)]


class HeartbeatReply(Wire):
    """I am here; `state` is a letter of STATE_LETTERS, `committed_round` the newest that I know."""

    kind: Literal["heartbeat-reply"] = "heartbeat-reply"
    run: HexHash
    term: Term
    committed_round: Round
    state: Annotated[str, Field(min_length=1, max_length=1)]


class Proposal(Wire):
    """Make this checkpoint durable and acknowledge it."""

    kind: Literal["proposal"] = "proposal"
    run: HexHash
    issue: Note
    checkpoint: SignedCheckpoint  # empty for the starting one, which everybody makes for himself


class Acknowledgement(Wire):
    kind: Literal["ack"] = "ack"
    run: HexHash
    ack: Note


class VotersChanged(Wire):
    """A committed checkpoint that changed the voters, with its certificate: a link of the chain that proves others."""

    checkpoint: SignedCheckpoint
    acks: Annotated[tuple[Note, ...], Field(max_length=31)]


class Commit(Wire):
    """This checkpoint is committed: the certificate proves it. `reports` are the nodes' measurements since the last.

    `changes` are the commits that changed the voters and that the receiver has missed, in order (§8.13).
    """

    kind: Literal["commit"] = "commit"
    run: HexHash
    round: Round
    checkpoint: SignedCheckpoint
    acks: Annotated[tuple[Note, ...], Field(max_length=31)]
    changes: Annotated[tuple[VotersChanged, ...], Field(max_length=CHANGES_MAX)] = ()
    reports: Annotated[tuple[Note, ...], Field(max_length=ROSTER_NODES_MAX)]


class AskCommit(Wire):
    """Send me your newest commit: I know none newer than `have_round`."""

    kind: Literal["ask-commit"] = "ask-commit"
    run: HexHash
    have_round: Round


class OfferMessage(Wire):
    kind: Literal["offer"] = "offer"
    run: HexHash
    offer: Note


class EarlyMessage(Wire):
    """I have begun to code what I learned in `round` from `base`: what there is of it can be asked for (§8.29)."""

    kind: Literal["early"] = "early"
    run: HexHash
    round: Round
    base: HexHash


class ReceiptMessage(Wire):
    kind: Literal["receipt"] = "receipt"
    run: HexHash
    receipt: Note


class RefusalMessage(Wire):
    """As the aggregator of `term` I refuse the update of your signed offer with this hash: for people (§8.30)."""

    kind: Literal["refusal"] = "refusal"
    run: HexHash
    term: Term
    offer: HexHash
    code: Annotated[str, Field(max_length=40, pattern=r"^[a-z]+(-[a-z]+)+$")]
    reason: Text


class ReportMessage(Wire):
    kind: Literal["report"] = "report"
    run: HexHash
    report: Note


class Reports(Wire):
    """The measurements of the last checkpoint, once the run has ended."""

    kind: Literal["reports"] = "reports"
    run: HexHash
    reports: Annotated[tuple[Note, ...], Field(max_length=ROSTER_NODES_MAX)]


class ReadyMessage(Wire):
    """A node's answer to the proposal, for the proposer; or, after the start, for the voters: take me in."""

    kind: Literal["ready"] = "ready"
    run: HexHash
    ready: Note


class DeclinedMessage(Wire):
    kind: Literal["declined"] = "declined"
    run: HexHash
    declined: Note


class Failure(Wire):
    """For the proposer: my task has failed in this round, and my part in the run is over, or rests for want of room;
    or, where it `goes_on`, a measurement is lacking. The reason is one line without a word of data."""

    kind: Literal["failure"] = "failure"
    run: HexHash
    round: Round
    goes_on: bool
    reason: OneLine


class FailureHeard(Wire):
    """The proposer knows of it."""

    kind: Literal["failure-heard"] = "failure-heard"
    run: HexHash
    round: Round
    goes_on: bool


Deed = Literal["two-issues", "two-checkpoints", "dropped-update", "wrong-result"]


class Accusation(Wire):
    """`accused` lied as aggregator, and this proves it: two issues, two checkpoints, a receipt and a checkpoint, or an
    issue and a checkpoint to recompute. See protocol.run.proofs."""

    kind: Literal["accusation"] = "accusation"
    run: HexHash
    accused: NodeName
    what: Deed
    first: SignedCheckpoint
    second: SignedCheckpoint


RunMessage = Annotated[
    PreVoteRequest
    | PreVoteReply
    | VoteRequest
    | VoteReply
    | Heartbeat
    | HeartbeatReply
    | Proposal
    | Acknowledgement
    | Commit
    | AskCommit
    | OfferMessage
    | EarlyMessage
    | ReceiptMessage
    | RefusalMessage
    | ReportMessage
    | Reports
    | ReadyMessage
    | DeclinedMessage
    | Failure
    | FailureHeard
    | Accusation,
    Field(discriminator="kind"),
]
