"""A small world for run machines: a discrete-event network that loses, delays, repeats and reorders, nodes that crash
and come back with what was durable, and checks after every event. All from one seed.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import run_liars
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from run_invariants import Broken, Invariants

from protocol.keys import Hash, NodeId, RunId, node_id_of, public_key_of
from protocol.run.checkpoint import (
    Checkpoint,
    Offer,
    Ready,
    RunStart,
    UpdateEntry,
    checkpoint_name,
    open_ready,
    sign_note,
    starting_checkpoint,
)
from protocol.run.directions import Directions
from protocol.run.events import (
    Began,
    Collect,
    Collected,
    Combine,
    Combined,
    Committed,
    Directed,
    Elected,
    Ended,
    Evaluate,
    Evaluated,
    Evidence,
    Measured,
    Misbehaved,
    Obtain,
    Obtained,
    ParticipantState,
    Persist,
    Received,
    Recompute,
    RunEvent,
    RunOutput,
    RunSettings,
    Send,
    SetTimer,
    Timer,
    Train,
    Trained,
    TrainingFailed,
    WentOn,
)
from protocol.run.machine import RunMachine
from protocol.run.messages import Proposal, RunMessage
from protocol.run.voters import voters_of
from protocol.wire import hash_of

RUN = RunId(hash_of(b"a run"))
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in range(1, 40)]
IDS = [node_id_of(public_key_of(key)) for key in KEYS]
MODEL = hash_of(b"model 0")
SCHEMA = hash_of(b"schema")
_READY: dict[tuple[int, str], bytes] = {}


def ready_note(index: int, role: str = "trainer") -> bytes:
    if (index, role) not in _READY:
        note = Ready(run=RUN, node=IDS[index], role=role, data_fingerprint="", capacity_class=3)  # type: ignore[arg-type]
        _READY[index, role] = sign_note(KEYS[index], note)
    return _READY[index, role]


@dataclass
class Faults:
    loss: float = 0.0
    repeat: float = 0.0
    delay_s: tuple[float, float] = (0.01, 0.05)
    crash_rate_per_s: float = 0.0
    down_s: tuple[float, float] = (1.0, 20.0)
    cut_rate_per_s: float = 0.0
    crash_at_outputs: bool = False  # a crash falls between any two outputs of a step
    obtain_s: tuple[float, float] = (0.01, 0.5)
    late: float = 0.0  # the share of messages that come very late, after all that was said since
    late_s: tuple[float, float] = (2.0, 20.0)
    one_way_rate_per_s: float = 0.0  # one node hears another no more, which still hears it
    until_s: float = 0.0


@dataclass
class SimNode:
    index: int
    machine: RunMachine | None = None
    journal: list[bytes] = field(default_factory=list)
    durable: set[str] = field(default_factory=set)  # names of checkpoints and updates
    epoch: int = 0
    timers: dict[str, int] = field(default_factory=dict)
    ended: str | None = None
    failed_training: bool = False
    cannot_combine: bool = False  # its disk is damaged


class World:
    """`voters` nodes, of which node 0 has the starting model. `run(until_s)` plays it."""

    def __init__(
        self, seed: int, nodes: int = 5, *, rounds: int = 3, faults: Faults | None = None, **settings: float | str
    ) -> None:
        self.random = random.Random(seed)
        self.faults = faults or Faults()
        self.settings = RunSettings(rounds=rounds, **settings)  # type: ignore[arg-type]
        self.now = 0.0
        self.queue: list[tuple[float, int, int, int, object]] = []
        self.count = 0
        self.nodes = [SimNode(i) for i in range(nodes)]
        self.nodes[0].durable.add(MODEL)
        self.start = RunStart(
            run=RUN, roster=tuple(ready_note(i) for i in range(nodes)), tensor_schema=SCHEMA, model=MODEL
        )
        self.liars: dict[int, str] = {}  # what a node does when it aggregates
        self.training_s: dict[int, float] = {}  # of the slow
        self.cut: set[frozenset[int]] = set()
        self.one_way_cut: set[tuple[int, int]] = set()  # (from, to)
        self.frozen: set[int] = set()  # these handle nothing until they thaw
        self.on_send: Callable[[int, NodeId, RunMessage], object] | None = None
        zero = starting_checkpoint(
            self.start, IDS[0], voters_of(RUN, (open_ready(raw).body for raw in self.start.roster)), rounds
        )
        self.invariants = Invariants(checkpoint_name(zero), MODEL, tuple(IDS[:nodes]))
        self.committed, self.reigns = self.invariants.committed, self.invariants.reigns
        self.trace: list[str] = []
        self.evidence: list[Evidence] = []
        self.misbehaved: list[Misbehaved] = []
        self.measured: set[tuple[int, bytes]] = set()
        self.trainings = 0
        self.commit_times: list[tuple[float, int]] = []
        self.checkpoints: dict[Hash, Checkpoint] = {}  # the committed ones
        self.states: dict[NodeId, set[str]] = {}
        self.reasons: dict[NodeId, set[str]] = {}
        self.refuses: dict[int, tuple[str, str]] = {}  # whose updates are refused: a code and a reason
        self.own_reasons: list[tuple[int, str]] = []  # that each node gave of itself, in order
        self.directions = Directions()
        for node in self.nodes:
            self.boot(node)
        self._plan_faults()

    # --- faults ----------------------------------------------------------------------------------------------------
    def _plan_faults(self) -> None:
        for node in self.nodes:
            at = self._next(self.faults.crash_rate_per_s)
            while at < self.faults.until_s:
                down = self.random.uniform(*self.faults.down_s)
                self._push(at, -1, ("crash", node.index, down))
                at += down + self._next(self.faults.crash_rate_per_s)
        at = self._next(self.faults.cut_rate_per_s)
        while at < self.faults.until_s:
            side = frozenset(i for i in range(len(self.nodes)) if self.random.random() < 0.5)
            self._push(at, -1, ("cut", side))
            self._push(at + self.random.uniform(2, 20), -1, ("heal",))
            at += self._next(self.faults.cut_rate_per_s)
        at = self._next(self.faults.one_way_rate_per_s)
        while at < self.faults.until_s:
            pair = tuple(self.random.sample(range(len(self.nodes)), 2))
            self._push(at, -1, ("deafen", pair))
            at += self._next(self.faults.one_way_rate_per_s)
        self._push(self.faults.until_s, -1, ("heal",))

    def _next(self, rate: float) -> float:
        return self.random.expovariate(rate) if rate > 0 else float("inf")

    def boot(self, node: SimNode) -> None:
        jitter = random.Random(self.random.random())
        node.epoch += 1
        node.timers = {}
        node.machine = RunMachine(
            me=IDS[node.index],
            key=KEYS[node.index],
            run=RUN,
            start=self.start,
            starter=IDS[0],
            settings=self.settings,
            jitter=jitter.random,
            records=node.journal,
            entry=ready_note(node.index),
            directions=self.directions,
        )
        self._push(self.now + self.random.uniform(0, 0.2), node.index, Began())

    def crash(self, node: SimNode, down_s: float) -> None:
        node.machine = None
        node.epoch += 1
        self._push(self.now + down_s, -1, ("boot", node.index))

    # --- the clock -------------------------------------------------------------------------------------------------
    def _push(self, at: float, node: int, what: object) -> None:
        self.count += 1
        epoch = self.nodes[node].epoch if node >= 0 else 0
        heapq.heappush(self.queue, (at, self.count, node, epoch, what))

    def run(self, until_s: float, *, until_ended: bool = True) -> None:
        while self.queue and self.queue[0][0] <= until_s:
            self.now, _, index, epoch, what = heapq.heappop(self.queue)
            if index < 0:
                self._world_event(what)  # type: ignore[arg-type]
            else:
                self._node_event(self.nodes[index], epoch, what)
            if until_ended and all(node.ended for node in self.nodes):
                return
        self.now = until_s

    def _world_event(self, what: tuple[object, ...]) -> None:
        match what:
            case ("crash", int(index), float(down)):
                if self.nodes[index].machine is not None:
                    self.crash(self.nodes[index], down)
            case ("boot", int(index)):
                if self.nodes[index].machine is None:
                    self.boot(self.nodes[index])
            case ("cut", frozenset() as side):
                self.cut = {frozenset((a, b)) for a in side for b in range(len(self.nodes)) if b not in side}
            case ("deafen", (int(source), int(target))):
                self.one_way_cut = {(source, target)}
            case ("heal",):
                self.cut, self.one_way_cut = set(), set()

    def _node_event(self, node: SimNode, epoch: int, what: object) -> None:
        if node.index in self.frozen:
            self._push(self.now + 1.0, node.index, what)
            return
        if node.machine is None or (epoch != node.epoch and not isinstance(what, Received)):
            return
        if isinstance(what, tuple):  # a timer with its number: only the newest of a name counts
            name, number = what
            if node.timers.get(name) != number:
                return
            what = Timer(name)
        assert not isinstance(what, tuple)
        outputs = node.machine.step(what, self.now)  # type: ignore[arg-type]
        stop_before = None
        if self.faults.crash_at_outputs and outputs and self.now < self.faults.until_s and self.random.random() < 0.01:
            stop_before = self.random.randrange(len(outputs) + 1)
        for place, output in enumerate(outputs):
            if place == stop_before:
                self.crash(node, self.random.uniform(*self.faults.down_s))
                return
            self.carry_out(node, output)

    # --- outputs ---------------------------------------------------------------------------------------------------
    def carry_out(self, node: SimNode, output: RunOutput) -> None:
        self.trace.append(f"{self.now:.3f} {node.index} {type(output).__name__}")
        match output:
            case Persist(record):
                node.journal.append(record)
                self.invariants.on_record(IDS[node.index], record)
            case Send(peer, Proposal() as message) if self.liars.get(node.index) == "two-checkpoints":
                self._send(
                    node.index, IDS.index(peer), Received(IDS[node.index], run_liars.doubled(self, peer, message))
                )
            case Send(peer, message):
                self.invariants.on_send(IDS[node.index], peer, message, node.durable)
                if self.on_send is not None:
                    self.on_send(node.index, peer, message)
                self._send(node.index, IDS.index(peer), Received(IDS[node.index], message))
            case SetTimer(name, after_s):
                self.count += 1
                node.timers[name] = self.count
                self._push(self.now + after_s, node.index, (name, self.count))
            case Obtain(name, checkpoint, _, sources):
                self._obtain(node, name, checkpoint, sources)
            case Collect(name, offer):
                self._collect(node, name, offer)
            case Recompute():
                run_liars.recompute(self, node, output)
            case Combine():
                self.invariants.on_combine(IDS[node.index], output.term, checkpoint_name(output.base))
                self._combine(node, output)
            case Train(round=round_number, name=name):
                self._train(node, round_number, name)
            case Evaluate(name, checkpoint):
                done = Evaluated(checkpoint.round, name, 10, {"accuracy": 0.5})
                self._push(self.now + 0.05, node.index, done)
            case Elected(term, aggregator):
                assert node.machine is not None
                self.invariants.on_elected(IDS[node.index], term, aggregator, node.machine.election.stored)
            case Committed(name, checkpoint, _):
                self.invariants.on_commit(IDS[node.index], name, checkpoint)
                self.commit_times.append((self.now, checkpoint.round))
                self.checkpoints[name] = checkpoint
            case ParticipantState(peer, state, _, reason):
                self.states.setdefault(peer, set()).add(state)
                self.reasons.setdefault(peer, set()).add(reason)
                if reason and peer == IDS[node.index]:
                    self.own_reasons.append((node.index, reason))
            case Evidence():
                self.evidence.append(output)
                if IDS.index(output.node) not in self.liars:
                    raise Broken(f"§8.16: {output.node}, which is honest, is accused: {output.what}")
            case Misbehaved():
                self.misbehaved.append(output)
            case Measured(reports):
                self.measured |= {(node.index, report) for report in reports}
            case Ended(outcome, _):
                node.ended = outcome
            case WentOn():
                node.ended = None
            case _:
                pass

    def reachable(self, a: int, b: int) -> bool:
        return frozenset((a, b)) not in self.cut and self.nodes[b].machine is not None

    def _send(self, source: int, target: int, event: Received) -> None:
        faulty = self.now < self.faults.until_s
        if (
            not self.reachable(source, target)
            or (source, target) in self.one_way_cut
            or (faulty and self.random.random() < self.faults.loss)
        ):
            return
        copies = 2 if faulty and self.random.random() < self.faults.repeat else 1
        for _ in range(copies):
            late = faulty and self.random.random() < self.faults.late
            delay_s = self.faults.late_s if late else self.faults.delay_s
            self._push(self.now + self.random.uniform(*delay_s), target, event)

    def answer(self, node: SimNode, event: RunEvent, after_s: tuple[float, float]) -> None:
        """`event` comes to `node` some time from now, if it lives then."""
        self._push(self.now + self.random.uniform(*after_s), node.index, event)

    def _obtain(self, node: SimNode, name: Hash, checkpoint: Checkpoint, sources: tuple[NodeId, ...]) -> None:
        key = checkpoint.model
        holders = [
            s for s in sources if self.reachable(node.index, IDS.index(s)) and key in self.nodes[IDS.index(s)].durable
        ]
        ok = key in node.durable or bool(holders)
        if ok:
            node.durable.add(key)
        obtain_s = self.faults.obtain_s if self.now < self.faults.until_s else (0.01, 0.5)
        self._push(self.now + self.random.uniform(*obtain_s), node.index, Obtained(name, ok))

    def _collect(self, node: SimNode, name: Hash, offer: Offer) -> None:
        source = IDS.index(NodeId(offer.node))
        ok = source == node.index or (self.reachable(node.index, source) and offer.update in self.nodes[source].durable)
        node.durable |= {offer.update} if ok else set()
        event = Collected(name, *self.refuses.get(source, ())) if ok else Collected(name, "unreachable", "gone")
        self._push(self.now + self.random.uniform(0.01, 0.2), node.index, event)

    def _combine(self, node: SimNode, output: Combine) -> None:
        if node.cannot_combine:
            self._push(self.now + 0.1, node.index, Combined(output.round, output.term, failed="damaged"))
            return
        entries = (
            tuple(UpdateEntry(offer=raw, weight=10, refused="", reason="") for raw in output.offers) + output.refused
        )
        model, entries = run_liars.combined(self.liars.get(node.index), node.index, output.base.model, entries)
        node.durable.add(model)
        done = Combined(
            output.round, output.term, model=model, difference=hash_of(model.encode()), entries=entries, parameters=7
        )
        self._push(self.now + self.random.uniform(0.01, 0.1), node.index, done)

    def _train(self, node: SimNode, round_number: int, name: Hash) -> None:
        self.trainings += 1
        if node.failed_training:
            self._push(self.now + 0.1, node.index, TrainingFailed(round_number, "it raised"))
            return
        update = hash_of(f"{node.index} {round_number} {name} {self.trainings}".encode())
        offer = Offer(
            run=RUN, node=IDS[node.index], round=round_number, base=name, update=update, update_bytes=9, samples=10,
            codec="fp32", metrics={"loss": 1.0},
        )  # fmt: skip
        node.durable.add(update)
        takes_s = self.training_s.get(node.index) or self.random.uniform(0.1, 1.0)
        self._push(self.now + takes_s, node.index, Trained(offer))

    def direct(self, directions: Directions, *indices: int) -> None:
        """The group's log asks for this. It reaches all nodes, or `indices`, and everybody who starts later."""
        self.directions = directions
        for index in indices or range(len(self.nodes)):
            self._push(self.now, index, Directed(directions))

    # --- the end ---------------------------------------------------------------------------------------------------
    def check_ended(self, outcome: str) -> None:
        for node in self.nodes:
            if node.ended != outcome:
                raise Broken(
                    f"node {node.index} ended {node.ended!r} at {self.now:.1f} s, rounds {sorted(self.committed)}"
                )


def play(seed: int, nodes: int, faults: Faults, rounds: int = 3, **settings: float | str) -> World:
    """A run under `faults`, which must end everywhere once they stop."""
    world = World(seed, nodes, rounds=rounds, faults=faults, **settings)
    world.run(faults.until_s + 400.0)
    world.check_ended("finished")
    if sorted(world.committed) != list(range(rounds + 1)):
        raise Broken(f"rounds {sorted(world.committed)} were committed")
    return world
