"""Catching up: asking for the newest commit, and giving it to who asks. docs/protocol.md §8.10."""

from protocol.keys import NodeId
from protocol.run.context import RunContext
from protocol.run.election import Election
from protocol.run.intake import Intake
from protocol.run.ledger import Ledger
from protocol.run.messages import (
    CHANGES_MAX,
    AskCommit,
    Heartbeat,
    OfferMessage,
    PreVoteRequest,
    Proposal,
    ReadyMessage,
    RunMessage,
    VoteRequest,
)

# One who has missed a commit asks no more often than this: the answer may be megabytes.
ASK_AGAIN_S = 2.0
# Of one answer, besides the newest checkpoint: together they fit a frame.
CHANGES_BYTES_MAX = 512 * 1024
# Whom a node without an aggregator asks for news: enough that one of them is up, few enough not to be a burden.
_ASKED_VOTERS = 3


class News:
    """What this node has missed, and what others have. `entry` is our ready note, for the case that we are not, or
    no longer, in the roster."""

    def __init__(
        self, context: RunContext, ledger: Ledger, intake: Intake, election: Election, entry: bytes | None
    ) -> None:
        self.context = context
        self.ledger = ledger
        self.intake = intake
        self.election = election
        self._entry = entry
        self._asked_at = float("-inf")

    # --- asking ----------------------------------------------------------------------------------------------------
    def ask(self, peer: NodeId) -> None:
        """Ask for the newest commit, unless one is on its way or we asked just now."""
        if not self.intake.awaits_commit and self.context.now - self._asked_at >= ASK_AGAIN_S:
            self._asked_at = self.context.now
            self._ask(peer)

    def seek(self) -> None:
        """Without an aggregator, ask some voters whether we have missed something; or to be taken in (§6.4)."""
        if self.election.aggregator is not None:
            return
        others = [node for node in self.context.voters if node != self.context.me]
        for node in others[:_ASKED_VOTERS]:
            self._ask(node)
        if self._entry is not None and self.context.me not in self.ledger.newest.roster:
            self.context.send_all(others, ReadyMessage(run=self.context.run, ready=self._entry))

    def _ask(self, peer: NodeId) -> None:
        self.context.send(peer, AskCommit(run=self.context.run, have_round=max(0, self.ledger.committed_round)))

    # --- answering -------------------------------------------------------------------------------------------------
    def on_ask(self, peer: NodeId, message: AskCommit) -> None:
        if message.have_round < self.ledger.committed_round or self.ledger.committed_round == 0:
            self._send_commit(peer, message.have_round)

    def answer_after_end(self, peer: NodeId, message: RunMessage) -> bool:
        """Who still votes or asks in a run that has ended gets its last commit. True when no more is to do."""
        have_round = message.have_round if isinstance(message, AskCommit) else self.ledger.committed_round
        if isinstance(message, PreVoteRequest | VoteRequest | AskCommit | OfferMessage | ReadyMessage):
            self._send_commit(peer, have_round)
            return True
        if isinstance(message, Heartbeat) and message.committed_round < self.ledger.committed_round:
            self._send_commit(peer, message.committed_round)
            return True
        return isinstance(message, Proposal)

    def _send_commit(self, peer: NodeId, have_round: int) -> None:
        """The newest commit, with the changes of voters that `peer` has missed; if they are too many, first the last of
        those that fit, which is a commit too."""
        if self.ledger.committed is None or peer == self.context.me:
            return
        changes = self.ledger.changes_since(have_round)
        size, fitting = 0, 0
        for change in changes[:CHANGES_MAX]:
            size += len(change.checkpoint) + sum(map(len, change.acks))
            fitting += size <= CHANGES_BYTES_MAX
        commit = self.ledger.newest_commit(changes=changes[:fitting])
        if size + sum(map(len, commit.reports)) > CHANGES_BYTES_MAX:
            commit = commit.model_copy(update={"reports": ()})  # who lacks them asks for the history
        if fitting < len(changes):
            last = changes[max(0, fitting - 1)]
            last_round = self.ledger.open_held(last.checkpoint).checkpoint.round
            earlier = {"round": last_round, "checkpoint": last.checkpoint, "acks": last.acks, "reports": ()}
            commit = commit.model_copy(update=earlier)
        self.context.send(peer, commit)
