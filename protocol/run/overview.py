"""What this node is told of the others in a run: where they are, and what they measured. docs/protocol.md §8.8."""

from functools import lru_cache

from protocol.keys import NodeId
from protocol.run.checkpoint import open_report
from protocol.run.context import RunContext
from protocol.run.events import STATE_LETTERS, Measured, ParticipantState
from protocol.run.history import REPORT_ROUNDS_MAX, subject_of
from protocol.run.ledger import Ledger

# A commit's reports are the same for everybody; a few runs may go on at once.
_REMEMBERED_BATCHES = 8


class Overview:
    """Keeps the others' states, so that only changes are told. None are where nobody wants them (`is_wanted`), nor
    once the run `is_over`: what the aggregator says then may be of before."""

    def __init__(self, context: RunContext, ledger: Ledger) -> None:
        self.context = context
        self.ledger = ledger
        self.is_wanted = True
        self.is_over = False
        self._states: dict[NodeId, str] = {}
        self._told: tuple[str, tuple[str, ...]] = ("", ())  # letters as they came last, and whose

    def take_states(self, letters: str) -> None:
        """The aggregator's word on all of the roster, a letter each, in its order."""
        told = (letters, self.ledger.newest.roster)
        if told == self._told or not self.is_wanted or self.is_over:
            return
        self._told = told
        for node, letter in zip(self.ledger.roster(), letters, strict=False):
            if node != self.context.me and letter in STATE_LETTERS and self._states.get(node) != letter:
                self._states[node] = letter
                round_number = max(0, self.ledger.committed_round)
                self.context.out.append(ParticipantState(node, STATE_LETTERS[letter], round_number))

    def begin_again(self) -> None:
        """The run goes on after its end: everybody's state is told anew."""
        self.is_over = False
        self._states.clear()
        self._told = ("", ())

    def take_reports(self, reports: tuple[bytes, ...], with_commit_of: int | None = None) -> None:
        """Measurements as their nodes signed them, alone or `with_commit_of` a round. Raises RemoteProtocolError.

        Those of the latest rounds that are known to be committed: else who signs many, of rounds to come or long gone,
        fills everybody's record. With a commit that was passed over none are taken: they are told with the history."""
        if with_commit_of is not None and with_commit_of < self.ledger.committed_round:
            return
        newest = max(self.ledger.newest_round, with_commit_of or 0)
        told = _of_the_run(reports, self.context.run, self.ledger.newest.roster, newest)
        if told:
            self.context.out.append(Measured(told))


@lru_cache(maxsize=_REMEMBERED_BATCHES)
def _of_the_run(reports: tuple[bytes, ...], run: str, roster: tuple[str, ...], newest: int) -> tuple[bytes, ...]:
    """One of each node and round: a signature is looked at only where it may count, for it takes a hundred times as
    long as what is read here."""
    nodes = set(roster)
    first: dict[tuple[str, int], bytes] = {}
    for raw in reports:
        subject = subject_of(raw)
        if subject is None:
            open_report(raw)  # says what is wrong with it
        elif subject[0] in nodes and newest - REPORT_ROUNDS_MAX <= subject[1] <= newest:
            first.setdefault(subject, raw)
    return tuple(raw for raw in first.values() if open_report(raw).body.run == run)
