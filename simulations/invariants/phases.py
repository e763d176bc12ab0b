"""How far a round has come, seen from outside: the moments at which a scenario may want something to go wrong.

voted         somebody has granted a vote in a term that nobody reigns in yet
elected       an aggregator speaks for the first time in its term
reissued      it proposes the newest checkpoint again under its own term
offered       somebody offers it the round's first update
received      it gives the first receipt
proposed      it sends the round's first proposal
stored        the first other voter has the checkpoint durable, and has not said so
acknowledged  the first acknowledgement leaves a voter
committed     the commit is durable at the first node, which has told nobody
announced     the first commit leaves it
"""

from collections.abc import Callable

from protocol.keys import NodeId
from simulations.invariants.run import Invariants
from simulations.world.watch import Happening, checkpoint_hash, signed_body

# (phase, round, the node that aggregates, or would)
OnPhase = Callable[[str, int, NodeId], None]


class Phases:
    """Tells each phase of each round once. Hand it what happens after `twin` has seen it."""

    def __init__(self, twin: Invariants, on_phase: OnPhase) -> None:
        self._twin = twin
        self._on_phase = on_phase
        self._seen: set[tuple[str, int]] = set()
        self._terms: set[int] = set()  # in which somebody reigns
        self._rounds: dict[str, int] = {}  # of proposed checkpoints
        self.aggregator: NodeId | None = None  # who spoke last as one

    def on_happening(self, happening: Happening) -> None:
        node, peer, what = happening.node, happening.peer, happening.what
        under_way = self._twin.committed_round + 1
        match happening.kind, what.get("kind"):
            case "sends", "heartbeat":
                self._reigns(node, what["term"], under_way)
            case "sends", "vote-reply" if what["granted"] and what["term"] not in self._terms:
                self._tell("voted", under_way, peer)
            case "sends", "offer":
                self._tell("offered", signed_body(what["offer"])["round"], peer)
            case "sends", "receipt":
                self._tell("received", signed_body(what["receipt"])["round"], node)
            case "sends", "proposal":
                number = signed_body(what["issue"])["round"]
                self._rounds[checkpoint_hash(what["checkpoint"])] = number
                self._reigns(node, signed_body(what["issue"])["term"], under_way)
                self._tell("proposed" if number >= under_way else "reissued", max(number, under_way), node)
            case "sends", "ack":
                self._tell("acknowledged", signed_body(what["ack"])["round"], peer)
            case "sends", "commit":
                self._tell("announced", what["round"], node)
            case "keeps", "stored" if node != self.aggregator:
                self._tell("stored", signed_body(what["issue"])["round"], self.aggregator or node)
            case "keeps", "committed":
                number = self._rounds.get(checkpoint_hash(what["checkpoint"]), -1)
                self._tell("committed", number, node)

    def _reigns(self, node: NodeId, term: int, under_way: int) -> None:
        if term not in self._terms:
            self._terms.add(term)
            self.aggregator = node
            self._tell("elected", under_way, node)

    def _tell(self, phase: str, number: int, node: NodeId) -> None:
        if (phase, number) not in self._seen:
            self._seen.add((phase, number))
            self._on_phase(phase, number, node)
