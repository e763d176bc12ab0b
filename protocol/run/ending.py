"""The end of a run on one node: the last reports are waited for, then it is over; until the group asks for more.

docs/protocol.md §8.9, §8.14.
"""

from protocol.keys import NodeId
from protocol.run.context import RunContext
from protocol.run.events import Ended, WentOn
from protocol.run.intake import Intake
from protocol.run.ledger import Ledger
from protocol.run.overview import Overview
from protocol.run.participation import Participation
from protocol.run.reign import CLOSING_S, Reign


class Ending:
    """`is_over` once `Ended` was put out. A machine that is over goes on answering who missed the end."""

    def __init__(
        self, context: RunContext, ledger: Ledger, intake: Intake, participation: Participation, overview: Overview
    ) -> None:
        self.context = context
        self.ledger = ledger
        self.intake = intake
        self.participation = participation
        self.overview = overview
        self.is_over = False
        self.nobody_closes = False  # the end came late, and nobody reigns who would send the last reports

    def on_last_commit(self, *, aggregator: NodeId | None) -> None:
        """The run's last checkpoint is committed, by somebody else: its aggregator sends the last reports around."""
        self.nobody_closes = aggregator is None
        self.context.set_timer("closing", CLOSING_S + self.context.settings.heartbeat_s)

    def begin_closing(self, reign: Reign) -> None:
        """We have committed the last checkpoint ourselves: wait for everybody's report on it."""
        reign.closing = True
        self.context.set_timer("closing", CLOSING_S)

    def look(self, reign: Reign | None) -> None:
        """After any event: is what we waited for there?"""
        if reign is not None:
            if reign.closing and not self.context.to_self and reign.all_reported():
                self._close(reign)
        elif self.nobody_closes and self.participation.letter in ("F", "X"):
            self.end()

    def on_closing_timer(self, reign: Reign | None) -> None:
        if not self.ledger.has_ended:
            return  # it was set before the run went on
        if reign is not None:
            self._close(reign)
        else:
            self.end()

    def _close(self, reign: Reign) -> None:
        if not self.is_over:
            reign.close()
            self.end()

    def end(self) -> None:
        """It is over here."""
        if self.is_over:
            return
        self.is_over = self.overview.is_over = True
        last = self.intake.ended_without_us or self.ledger.newest
        self.context.out.append(Ended(last.outcome, last.reason, last.roster))

    def take_back(self) -> None:
        """The group has asked for more: it was not the end."""
        self.is_over = self.nobody_closes = False
        self.overview.begin_again()
        self.intake.ended_without_us = None
        self.context.out.append(WentOn())
