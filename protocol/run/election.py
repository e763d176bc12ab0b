"""Who is the aggregator: Raft's election (Ongaro and Ousterhout, 2014), with PreVote (Ongaro, 2014, §9.6), over
checkpoints in place of a log. Every rule stands as a sentence in docs/protocol.md §7.
"""

from enum import Enum

from protocol.keys import NodeId
from protocol.run.checkpoint import majority
from protocol.run.context import RunContext
from protocol.run.events import Elected
from protocol.run.journal import TermRecord
from protocol.run.messages import PreVoteReply, PreVoteRequest, VoteReply, VoteRequest

# How long a candidate waits for answers before it tries again: several round trips over slow links, yet well below the
# election timeout.
_ASK_AGAIN_S = 2.0


class Role(Enum):
    FOLLOWER = "follower"
    ASKING = "asking"  # for pre-votes
    CANDIDATE = "candidate"
    AGGREGATOR = "aggregator"


# No honest node is so many terms ahead: that takes days of elections. Who claims it would use up the numbers.
TERM_LEAP_MAX = 1_000_000

Position = tuple[int, int]  # (term, round) of a stored checkpoint; compared in that order


class Election:
    """One voter's, or follower's, part in the elections of a run.

    The owner keeps `stored` at the newest checkpoint that is durable here, and hands in messages and the timer named
    "election". `role` turns AGGREGATOR when we are elected; the owner then reigns.
    """

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.term = 0
        self.voted_for: NodeId | None = None
        self.role = Role.FOLLOWER
        self.aggregator: NodeId | None = None
        self.heard_at: float | None = None
        self.stored: Position = (0, 0)
        self._grants: set[NodeId] = set()

    @property
    def is_voter(self) -> bool:
        return self.context.me in self.context.voters

    def begin(self, *, fresh: bool) -> None:
        """Arm the timer. In a run that has just been started nobody can be reigning yet, so rank alone decides."""
        wait = self._rank_wait() if fresh else self.timeout_s()
        self.context.set_timer("election", wait)

    def timeout_s(self) -> float:
        """How long this node hears no aggregator before it stands itself: the higher in rank, the sooner (§7.9)."""
        return self.context.settings.election_timeout_s + self._rank_wait()

    def hears_aggregator(self) -> bool:
        """Whether a live aggregator spoke within the minimum election timeout (§7.5)."""
        if self.role is Role.AGGREGATOR:
            return True
        return self.heard_at is not None and self.context.now - self.heard_at < self.context.settings.election_timeout_s

    # --- the timer -----------------------------------------------------------------------------------------------
    def on_timer(self) -> None:
        """Nobody reigns, or so it seems from here: ask for pre-votes (§7.2)."""
        if self.role is Role.AGGREGATOR:
            return
        if self.heard_at is not None:
            rest = self.heard_at + self.timeout_s() - self.context.now
            if rest > 0:
                self.context.set_timer("election", rest)
                return
        if self.aggregator is not None:
            self.aggregator = None
            self.context.out.append(Elected(self.term, None))
        self.context.set_timer("election", _ASK_AGAIN_S * (0.75 + 0.5 * self.context.jitter()) + self._rank_wait())
        if self.is_voter and self.context.me not in self.context.deposed:
            self._ask_for_prevotes()

    def _ask_for_prevotes(self) -> None:
        self.role = Role.ASKING
        self._grants = {self.context.me}
        request = PreVoteRequest(
            run=self.context.run, term=self.term + 1, stored_term=self.stored[0], stored_round=self.stored[1]
        )
        self.context.send_all(self.context.voters, request)
        self._count_prevotes()

    # --- pre-votes -----------------------------------------------------------------------------------------------
    def on_prevote_request(self, peer: NodeId, message: PreVoteRequest) -> None:
        if not self._may_take_part(peer):
            return
        granted = (
            message.term > self.term
            and self._is_up_to_date(message.stored_term, message.stored_round)
            and not self.hears_aggregator()
        )
        term = message.term if granted else self.term
        self.context.send(peer, PreVoteReply(run=self.context.run, term=term, granted=granted))

    def on_prevote_reply(self, peer: NodeId, message: PreVoteReply) -> None:
        if not self._may_take_part(peer):
            return
        if not message.granted:
            self._see_term(message.term)
        elif self.role is Role.ASKING and message.term == self.term + 1:
            self._grants.add(peer)
            self._count_prevotes()

    def _count_prevotes(self) -> None:
        if not self._has_majority():
            return
        self.role = Role.CANDIDATE
        self.term += 1
        self._vote_for(self.context.me)
        self._grants = {self.context.me}
        request = VoteRequest(
            run=self.context.run, term=self.term, stored_term=self.stored[0], stored_round=self.stored[1]
        )
        self.context.send_all(self.context.voters, request)
        self._count_votes()

    # --- votes ---------------------------------------------------------------------------------------------------
    def on_vote_request(self, peer: NodeId, message: VoteRequest) -> None:
        if not self._may_take_part(peer):
            return
        granted = False
        if not self.hears_aggregator():
            self._see_term(message.term)
            granted = self._may_vote_for(peer, message)
            if granted and self.voted_for is None:
                self._vote_for(peer)
        self.context.send(peer, VoteReply(run=self.context.run, term=self.term, granted=granted))

    def _may_vote_for(self, peer: NodeId, message: VoteRequest) -> bool:
        # Once a term …
        has_a_vote = message.term == self.term and self.voted_for in (None, peer)
        # … and only for one who holds at least what we hold.
        return has_a_vote and self._is_up_to_date(message.stored_term, message.stored_round)

    def on_vote_reply(self, peer: NodeId, message: VoteReply) -> None:
        if not self._may_take_part(peer):
            return
        self._see_term(message.term)
        if self.role is Role.CANDIDATE and message.granted and message.term == self.term:
            self._grants.add(peer)
            self._count_votes()

    def _count_votes(self) -> None:
        if not self._has_majority():
            return
        self.role = Role.AGGREGATOR
        self._follow(self.context.me)

    # --- the reign -----------------------------------------------------------------------------------------------
    def hear(self, peer: NodeId, term: int) -> bool:
        """Take note of a message that only the aggregator of `term` sends; False when it is not to be obeyed (§7.6)."""
        if peer not in self.context.eligible or peer in self.context.deposed or term < self.term:
            return False
        if term > self.term and peer != self.aggregator and self.hears_aggregator():
            return False  # whom we did not vote for says that it was elected, while the one that was lives (§7.6)
        self._see_term(term)
        if term != self.term:
            return False
        if self.aggregator is None and self.role is not Role.AGGREGATOR:
            self.role = Role.FOLLOWER
            self._follow(peer)
        if self.aggregator != peer:
            return False
        self.heard_at = self.context.now
        return True

    def see_term(self, term: int) -> None:
        """A voter speaks of `term`; if that is newer than ours, whatever we were in ours is over (§7.4)."""
        self._see_term(term)

    def step_down(self) -> None:
        """Give up a reign that no majority follows (§7.8)."""
        self.role = Role.FOLLOWER
        self.aggregator = None
        self.heard_at = None
        self.context.out.append(Elected(self.term, None))
        self.context.set_timer("election", self.timeout_s())

    def yield_turn(self) -> None:
        """Give up a reign that comes to nothing, and let everybody else stand first (§8.21)."""
        self.step_down()
        others_s = (len(self.context.voters) + 1) * self.context.settings.rank_step_s
        self.context.set_timer("election", self.timeout_s() + others_s)

    def forsake_if_deposed(self) -> None:
        """An aggregator that lied is followed no more: another is elected, without waiting for its silence (§8.16)."""
        if self.aggregator in self.context.deposed:
            self.step_down()
            self.context.set_timer("election", self._rank_wait())

    # --- pieces --------------------------------------------------------------------------------------------------
    def _may_take_part(self, peer: NodeId) -> bool:
        """Who is eligible may ask, and answers: a candidate may hold newer voters than we do, and counts only its own
        (§7.11). Nobody votes for one who was deposed (§8.16)."""
        able = self.context.me in self.context.eligible and peer in self.context.eligible
        return able and peer not in self.context.deposed

    def _has_majority(self) -> bool:
        return len(self._grants.intersection(self.context.voters)) >= majority(self.context.voters)

    def _is_up_to_date(self, stored_term: int, stored_round: int) -> bool:
        return (stored_term, stored_round) >= self.stored

    def _see_term(self, term: int) -> None:
        if term <= self.term or term > self.term + TERM_LEAP_MAX:
            return
        self.term = term
        self.voted_for = None
        if self.role is Role.AGGREGATOR:
            self.step_down()
        self.role = Role.FOLLOWER
        self.aggregator = None
        self.context.persist(TermRecord(term=term, voted_for=None))

    def _vote_for(self, node: NodeId) -> None:
        self.voted_for = node
        self.context.persist(TermRecord(term=self.term, voted_for=node))

    def _follow(self, aggregator: NodeId) -> None:
        self.aggregator = aggregator
        self.heard_at = self.context.now
        self.context.out.append(Elected(self.term, aggregator))

    def _rank_wait(self) -> float:
        rank = self.context.voters.index(self.context.me) if self.is_voter else len(self.context.voters)
        return (rank + 0.5 * self.context.jitter()) * self.context.settings.rank_step_s
