"""Faults made concrete: each says what happens to which nodes, when, and how long. A scenario and a seed give the list.

Decides every draw beforehand, each from its own source, so that leaving one fault out changes no other: that is what
makes a failing list shrinkable. Only who aggregates at the time is found out when it happens.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from simulations.plan.scenario import FaultKeys, Phase, Scenario

FOR_GOOD = ("remove", "revoke")  # whatever is said of how long
AGGREGATOR = -1  # in place of a node's number: whoever aggregates when the fault comes
FAULTS_MAX = 5000  # of one simulation


@dataclass(frozen=True, slots=True)
class Fault:
    """`at_s` after the run's start, or when `round` reaches `phase`, and `after_s` later. `for_s` 0: for ever.

    `nodes` are numbers, or AGGREGATOR; of a partition, its smaller side. `aggregator_in` moves the aggregator there.
    """

    kind: str
    nodes: tuple[int, ...]
    at_s: float | None = None
    phase: Phase | None = None
    round: int = 0
    after_s: float = 0.0
    for_s: float = 10.0
    peer: int | None = None
    silent: bool = False
    value: float = 0.0
    aggregator_in: str = "either"
    by: int | None = None
    knocks: bool = False

    def __str__(self) -> str:
        who = ", ".join("the aggregator" if node == AGGREGATOR else f"node-{node}" for node in self.nodes)
        if self.peer is not None:
            who += f" and {'the aggregator' if self.peer == AGGREGATOR else f'node-{self.peer}'}"
        if self.by is not None:
            who += f" by node-{self.by}"
        when = f"at {self.at_s:.3f} s" if self.at_s is not None else f"when round {self.round} is {self.phase}"
        side = "" if self.aggregator_in == "either" else f", the aggregator in the {self.aggregator_in}"
        return (
            f"{self.kind}{' silently' if self.silent else ''} {who}{side} {when} "
            f"{f'for {self.for_s:.3f} s' if self.for_s and self.kind not in FOR_GOOD else 'for good'}"
        )


def cohorts_of(scenario: Scenario, nodes: int) -> dict[str, tuple[int, ...]]:
    """The numbers of each cohort's nodes, dealt from the highest down: node-0 founds the group and proposes the run."""
    free = list(range(nodes - 1, -1, -1))
    found: dict[str, tuple[int, ...]] = {}
    for cohort in scenario.cohort:
        wanted = cohort.count if cohort.count is not None else max(1, round((cohort.share or 0.0) * nodes))
        found[cohort.name], free = tuple(sorted(free[:wanted])), free[wanted:]
    return found


def numbers_of(who: str, cohorts: Mapping[str, tuple[int, ...]], nodes: int) -> tuple[int, ...]:
    """The numbers behind a node's name, a cohort's, several of these with + between, or `all`; nodes that this
    simulation is too small for are none."""
    if "+" in who:
        return tuple(sorted({number for part in who.split("+") for number in numbers_of(part, cohorts, nodes)}))
    if who == "all":
        return tuple(range(nodes))
    if who in cohorts:
        return cohorts[who]
    number = int(who.removeprefix("node-"))
    return (number,) if number < nodes else ()


def plan_faults(scenario: Scenario, nodes: int, rounds: int, seed: int) -> list[Fault]:
    """All faults of the scenario for this seed, in the order of the file."""
    cohorts = cohorts_of(scenario, nodes)
    planned: list[Fault] = []
    for number, keys in enumerate(scenario.fault):
        for turn, (at_s, round_number) in enumerate(_occasions(keys, rounds, Random(f"times {number} of {seed}"))):
            random = Random(f"fault {number}, {turn} of {seed}")
            fault = _fault(keys, cohorts, nodes, turn, random, at_s, round_number)
            if fault.nodes and len(planned) < FAULTS_MAX:
                planned.append(fault)
    return planned


def _occasions(keys: FaultKeys, rounds: int, random: Random) -> Iterator[tuple[float | None, int]]:
    """The times, or the rounds, at which an entry strikes."""
    if keys.phase is not None:
        for number in [keys.round] if keys.round is not None else range(1, rounds + 1):
            yield None, number
    elif keys.per_minute is not None:
        at = random.expovariate(keys.per_minute / 60.0)
        while at < keys.until_s:
            yield at, 0
            at += random.expovariate(keys.per_minute / 60.0)
    elif keys.at_s is not None:
        yield keys.at_s, 0
        if keys.every_s is not None:
            turns = int((keys.until_s - keys.at_s) // keys.every_s)
            for turn in range(1, min(turns, FAULTS_MAX) + 1):
                yield keys.at_s + turn * keys.every_s, 0


def _fault(
    keys: FaultKeys,
    cohorts: Mapping[str, tuple[int, ...]],
    nodes: int,
    turn: int,
    random: Random,
    at_s: float | None,
    round_number: int,
) -> Fault:
    is_pair = keys.kind in ("cut", "deafen")
    chosen = _side(keys, nodes, random) if keys.kind == "partition" else _who(keys, cohorts, nodes, turn, random)
    peer = _peer(keys, chosen, cohorts, nodes, random) if is_pair else None
    return Fault(
        kind=keys.kind,
        nodes=chosen if not is_pair or peer is not None else (),
        at_s=at_s,
        phase=keys.phase,
        round=round_number,
        after_s=keys.after_s if keys.phase is not None else 0.0,
        for_s=random.uniform(*keys.for_s) if isinstance(keys.for_s, tuple) else keys.for_s,
        peer=peer,
        silent=keys.silent,
        value=keys.value,
        aggregator_in=keys.aggregator_in if keys.kind == "partition" else "either",
        by=next(iter(numbers_of(keys.by, cohorts, nodes)), None) if keys.by else None,
        knocks=keys.knocks,
    )


def _who(
    keys: FaultKeys, cohorts: Mapping[str, tuple[int, ...]], nodes: int, turn: int, random: Random
) -> tuple[int, ...]:
    if keys.node == "aggregator":
        return (AGGREGATOR,)
    if keys.node == "each":
        return (turn % nodes,)
    if keys.node != "random":
        return numbers_of(keys.node, cohorts, nodes)
    return tuple(sorted(random.sample(range(nodes), max(1, round(keys.share * nodes)))))


def _side(keys: FaultKeys, nodes: int, random: Random) -> tuple[int, ...]:
    wanted = min(max(1, round(keys.minority * nodes)), max(1, (nodes - 1) // 2))
    return tuple(sorted(random.sample(range(nodes), wanted))) if nodes > 1 else ()


def _peer(
    keys: FaultKeys, chosen: Sequence[int], cohorts: Mapping[str, tuple[int, ...]], nodes: int, random: Random
) -> int | None:
    if keys.peer == "aggregator":
        return AGGREGATOR
    if keys.peer != "random":
        return next((number for number in numbers_of(keys.peer, cohorts, nodes) if number not in chosen), None)
    others = [number for number in range(nodes) if number not in chosen]
    return random.choice(others) if others else None
