"""A run of our group that we do not take part in: now and then a voter is asked how it stands, and proves its answer.

Nothing is fetched but the newest commit's manifest, and nothing is believed without its certificate. Only heads and
figures come this way; the model is for those who take part.
"""

from collections.abc import Callable
from random import Random

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.run.chronicle import Chronicle
from protocol.keys import NodeId, RunId
from protocol.run.checkpoint import RunStart
from protocol.run.context import RunContext
from protocol.run.directions import Directions
from protocol.run.events import Committed, Ended, Measured, RunSettings
from protocol.run.history import believed_reports
from protocol.run.ledger import Ledger, MissedChanges
from protocol.run.messages import AskCommit, Commit, RunMessage
from protocol.run.voters import first_voters

# Often enough to see a run end while somebody waits for it, and no load worth speaking of.
ASK_EVERY_S = 20.0
ASK_FIRST_S = 2.0  # a run that ended while we were off line is told of at once


class RunWatch:
    """One run, looked at from outside. Raises RemoteProtocolError when the start is malformed."""

    def __init__(
        self,
        me: NodeId,
        key: Ed25519PrivateKey,
        run: RunId,
        start: RunStart,
        starter: NodeId,
        settings: RunSettings,
        directions: Directions,
        *,
        chronicle: Chronicle,
        random: Random,
        send: Callable[[NodeId, RunMessage], None],
    ) -> None:
        voters = first_voters(run, start)
        self._context = RunContext(me, key, run, voters, settings, random.random, directions=directions)
        self.ledger = Ledger(self._context, start, starter)
        self._chronicle = chronicle
        self._random = random
        self._send = send
        self.over = trio.Event()

    async def run(self) -> None:
        """Ask until the run is over."""
        await trio.sleep(ASK_FIRST_S)
        while not self.over.is_set():
            others = [voter for voter in self._context.voters if voter != self._context.me]
            if others:
                have_round = max(0, self.ledger.committed_round)
                self._send(self._random.choice(others), AskCommit(run=self._context.run, have_round=have_round))
            with trio.move_on_after(ASK_EVERY_S * (0.75 + 0.5 * self._random.random())):
                await self.over.wait()

    def on_message(self, message: RunMessage) -> None:
        """A commit that proves itself is recorded; all else is not for us. Raises RemoteProtocolError."""
        if not isinstance(message, Commit) or message.round <= self.ledger.committed_round:
            return
        try:
            held, term = self.ledger.check_commit(message)
        except MissedChanges:
            return  # the answer to our next question will have what lies between
        reports = believed_reports(message.reports, held.name, held.checkpoint)
        self.ledger.commit(term, held, message.acks, message.changes, reports)
        self._context.out.clear()  # nothing of this needs to be durable: it can be asked for again
        self._chronicle.committed(Committed(held.name, held.checkpoint, term), None)
        if reports:
            self._chronicle.measured(Measured(reports))
        self._look_for_the_end()

    def direct(self, directions: Directions) -> bool:
        """This is what the group's log asks of the run now. Whether it goes on, after it was over."""
        self._context.directions = directions
        if not self.over.is_set() or self.ledger.has_ended:
            return False
        self.over = trio.Event()
        self._chronicle.state("", "RUNNING", "", self.ledger.committed_round)
        return True

    def _look_for_the_end(self) -> None:
        if self.ledger.has_ended:
            last = self.ledger.newest
            self._chronicle.ended(Ended(last.outcome, last.reason, last.roster), last.round)
            self.over.set()
