"""What somebody wants simulated, and what came of it, in words: the lines of `fednode simulate` and of the soak."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

from blake3 import blake3

from protocol.errors import Refused
from simulations.checks import Check, check
from simulations.plan.faults import plan_faults
from simulations.plan.read import Read, load_scenario
from simulations.play import Played, Told, play, told_faults
from simulations.shrink import Shrunk, shrink
from simulations.simulate import Simulated, plain

PLAIN_NODES, PLAIN_ROUNDS = 20, 10
FAULTS_SHOWN_MAX = 12  # with the checks below them they fit a screen


@dataclass(frozen=True, slots=True)
class Wish:
    """`scenario`: a path or a shipped name, or None for the plain simulation. `faults`: only these of its faults."""

    scenario: str | None
    nodes: int | None
    rounds: int | None
    seed: int
    faults: tuple[int, ...] | None = None
    exact: bool = False

    def with_seed(self, seed: int) -> "Wish":
        return replace(self, seed=seed)

    def read(self) -> Read:
        """Raises Refused for a scenario that is none."""
        if self.scenario is None:
            return plain(self.nodes or PLAIN_NODES, self.rounds or PLAIN_ROUNDS)
        return load_scenario(self.scenario, {"training.rounds": self.rounds} if self.rounds else None)

    @property
    def label(self) -> str:
        """A file's name for the store."""
        if self.scenario is None:
            return f"{self.nodes or PLAIN_NODES}-nodes-{self.rounds or PLAIN_ROUNDS}-rounds-seed-{self.seed}"
        return f"{Path(self.scenario).stem}-seed-{self.seed}"


@dataclass(frozen=True, slots=True)
class Simulation:
    """One simulation that was performed."""

    wish: Wish
    read: Read
    nodes: int
    played: Played
    checks: tuple[Check, ...]
    shrunk: Shrunk | None

    @property
    def is_right(self) -> bool:
        return all(one.holds for one in self.checks)

    @property
    def replay(self) -> str:
        """The command that does the same again, with as few faults and rounds as were found to suffice."""
        words = ["fednode simulate", *([quote(self.wish.scenario)] if self.wish.scenario else [])]
        words += [f"--nodes {self.nodes}", f"--seed {self.wish.seed}"]
        rounds = self.shrunk.read.rounds if self.shrunk else self.wish.rounds
        words += [f"--rounds {rounds}"] if rounds else []
        faults = self.shrunk.numbers if self.shrunk else self.wish.faults
        words += [f"--faults {','.join(map(str, faults))}"] if faults is not None else []
        return " ".join([*words, *(["--exact"] if self.wish.exact else [])])

    def as_json(self) -> dict[str, Any]:
        violation = self.played.violation
        return {
            **asdict(Simulated.of(self.played)),
            "nodes": self.nodes,
            "seed": self.wish.seed,
            "scenario": self.read.name if self.wish.scenario else None,
            "faults": told_faults(self.played),
            "checks": [asdict(one) for one in self.checks],
            "violation": asdict(violation) if violation else None,
            "replay": self.replay,
        }

    def line(self) -> str:
        """One line about it."""
        played = self.played
        wrong = "; ".join(f"{one.name}: {one.text}" for one in self.checks if not one.holds)
        return (
            f"{self.read.name} seed {self.wish.seed}: {'FAILED: ' + wrong if wrong else 'right'}; "
            f"{played.rounds_committed} rounds, {played.elections} reigns, {len(played.faults)} faults, "
            f"virtual {played.virtual_s:.0f} s, {played.cpu_s:.1f} CPU s"
        )

    def text(self, store: Path) -> str:
        played = self.played
        accuracy = "not measured" if played.accuracy is None else f"{100 * played.accuracy:.1f} %"
        lines = [
            f"{self.nodes} nodes, {played.rounds_committed} rounds committed, {played.outcome.lower()}",
            f"accuracy over all nodes' held-out data: {accuracy}",
            f"aggregator: {played.aggregator}, elections: {played.elections}",
            f"virtual time {played.virtual_s:.1f} s; took {played.real_s:.1f} s, {played.cpu_s:.1f} CPU seconds",
            "(a signature that several nodes check over the same bytes is computed once)",
        ]
        if self.wish.scenario:
            lines += [*self._faults(), *(_line(one) for one in self.checks)]
        if played.violation is not None:
            lines += ["", *self._account()]
        lines += [
            "",
            f"look further:  fednode tui --store {quote(str(store))}",
            f"               fednode run show {quote(self.read.name)} --store {quote(str(store))}",
            f'               fednode sql --store {quote(str(store))} "select * from runs"',
            f"trace {played.trace}",
        ]
        return "\n".join(lines)

    def _faults(self) -> list[str]:
        """What happened, in its order."""
        faults, refused = told_faults(self.played), sum(map(bool, self.played.fault_refusals))
        count = f"faults: {len(faults)}{f', of which the group refused {refused}' if refused else ''}"
        lines = [count, *(f"  {fault}" for fault in faults[:FAULTS_SHOWN_MAX])]
        more = len(faults) - FAULTS_SHOWN_MAX
        return [*lines, f"  … and {more} more, which --json lists"] if more > 0 else lines

    def _account(self) -> list[str]:
        """What was violated, the shortest way to it that was found, and what happened last."""
        shortest = self.shrunk.played if self.shrunk else self.played
        violation = shortest.violation
        assert violation is not None
        lines = [f"VIOLATED: {violation.rule}: {violation.what}", f"  at {violation.time:.3f} virtual s"]
        lines += [f"seed {self.wish.seed}, replay:  {self.replay}"]
        if self.shrunk is not None:
            lines += [f"the shortest list of faults that was found, in {self.shrunk.tries} tries:"]
            lines += [f"  {fault}" for fault in self.shrunk.faults] or ["  none"]
        return [*lines, "", "what happened last, by node:", *shortest.last]


def _line(one: Check) -> str:
    return f"  {'holds ' if one.holds else 'FAILED'}  {one.name}: {one.text}"


def perform(
    wish: Wish,
    store: Path | None,
    *,
    shrinking: bool,
    on_progress: Callable[[Told], None] = lambda told: None,
) -> Simulation:
    """Simulate what is wished. Where an invariant is violated, and `shrinking`, look for a shorter way there.

    Raises Refused for a scenario, or numbers of faults, that are none."""
    read = wish.read()
    nodes = wish.nodes or read.scenario.nodes
    planned = plan_faults(read.scenario, nodes, read.rounds, wish.seed)
    numbers = wish.faults if wish.faults is not None else tuple(range(len(planned)))
    if any(not 0 <= number < len(planned) for number in numbers):
        raise Refused(
            "bad-faults",
            f"This scenario and seed give {len(planned)} faults, numbered from 0",
            remedy="name some of these",
        )
    with _silent_nodes():
        return _perform(wish, read, nodes, numbers, store, shrinking, on_progress)


def _perform(
    wish: Wish,
    read: Read,
    nodes: int,
    numbers: tuple[int, ...],
    store: Path | None,
    shrinking: bool,
    on_progress: Callable[[Told], None],
) -> Simulation:
    planned = plan_faults(read.scenario, nodes, read.rounds, wish.seed)
    faults, watching = [planned[number] for number in numbers], wish.scenario is not None
    played = play(
        read, nodes, wish.seed, store, faults=faults, watching=watching, exact=wish.exact, on_progress=on_progress
    )
    checks = tuple(check(read.scenario, nodes, read.rounds, played)) if watching else ()
    shrunk = None
    if played.violation is not None and shrinking:

        def on_try(tries: int, left: int) -> None:
            on_progress(Told(f"shrinking, try {tries}: {left} faults", 0, read.rounds, 0.0))

        shrunk = shrink(read, nodes, wish.seed, played, numbers, exact=wish.exact, on_try=on_try)
    return Simulation(wish, read, nodes, played, checks, shrunk)


@contextmanager
def _silent_nodes() -> Iterator[None]:
    """Nodes complain about faults, each for itself; the record has it all. What the simulator itself says is heard."""
    nodes, own = logging.getLogger("fednode"), logging.getLogger("fednode.simulation")
    before = nodes.level, own.level
    nodes.setLevel(logging.CRITICAL + 1)
    own.setLevel(logging.WARNING)
    try:
        yield
    finally:
        nodes.setLevel(before[0])
        own.setLevel(before[1])


def trace_of_all(simulations: Iterable[Simulation]) -> str:
    """One hash over the traces of several simulations."""
    return blake3("\n".join(one.played.trace for one in simulations).encode()).hexdigest()
