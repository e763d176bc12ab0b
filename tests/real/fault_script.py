"""A script of faults for real nodes, drawn from a seed, and its player: kills, freezes, broken links, and their ends.

The same seed gives the same script. Some faults are for whoever aggregates when they begin, so which node they hit is
for the run to say. No more nodes are down at once than the run can spare, but for a moment in which all are killed;
at the end of the script everything is whole again.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from nodes import ENDED, Json, RealNode, Study, start_all

from fednode import ClientError

LINK_FAULTS = ("cut", "black-hole", "mute", "deaf", "half-open")
LINKS_BROKEN_MAX = 3
BETWEEN_S = (0.5, 5.0)
# Shorter and longer than an election takes, a node is lost, it leaves the roster.
LASTS_S = (0.3, 2.0, 5.0, 12.0)
LOOK_S = 0.5
TIMING = (
    "[timing]\nheartbeat_s = 0.3\nelection_timeout_s = 1.5\nrank_step_s = 0.3\nlost_after_s = 3\nleave_after_s = 8\n"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a node, or between two. Times are seconds from the script's beginning."""

    begins_s: float
    ends_s: float
    kind: str
    target: int | None  # None: whoever aggregates then
    other: int  # at the other end of a broken link


def script(seed: int, nodes: int, seconds: float) -> list[Fault]:
    """The faults of `seed`, by the time at which they begin."""
    draw = random.Random(seed)
    faults = []
    at = draw.uniform(*BETWEEN_S)
    while at < seconds:
        kind = draw.choice(["kill", "kill", "freeze", "freeze", "link", "link", "all"])
        if kind == "all" and draw.random() < 0.7:
            kind = "kill"
        kind = draw.choice(LINK_FAULTS) if kind == "link" else kind
        target = None if draw.random() < 0.4 else draw.randrange(nodes)
        ends_s = min(at + draw.choice(LASTS_S) * draw.uniform(0.7, 1.3), seconds)
        faults.append(Fault(at, ends_s, kind, target, draw.randrange(nodes)))
        at += draw.uniform(*BETWEEN_S)
    return faults


class Player:
    """Plays a script on a study's nodes while `run` goes on. `say` gets a line for everything that happens."""

    def __init__(self, study: Study, run: str, say: Callable[[str], None]) -> None:
        self.nodes = study.nodes
        self.faults_played = 0
        self._study = study
        self._run = run
        self._say = say
        self._down: dict[RealNode, Fault] = {}
        self._broken: dict[Fault, tuple[RealNode, RealNode]] = {}
        for node in self.nodes:
            assert node.node_id  # known from now on, also of a node that is frozen
        self._begun = time.monotonic()

    def play(self, faults: list[Fault]) -> None:
        """Play `faults` and mend everything; ends sooner when the run does."""
        moments = sorted(
            [(fault.begins_s, 1, number) for number, fault in enumerate(faults)]
            + [(fault.ends_s, 0, number) for number, fault in enumerate(faults)]
        )
        for at, begins, number in moments:
            if not self._reach(at):
                self._tell("the run has ended before the script")
                break
            (self._begin if begins else self._end)(faults[number])
        for fault in [*self._down.values(), *self._broken]:
            self._end(fault)
        self._study.heal()
        self._tell("all is whole again")

    def _reach(self, at: float) -> bool:
        """Wait for a time of the script; false when the run is over."""
        while (left := self._begun + at - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_S))
            for node in self.nodes:
                assert node.is_running or node in self._down, f"{node.name} has ended by itself"
            if (seen := self._seen()) is not None and seen["state"] in ENDED:
                return False
        return True

    # --- faults --------------------------------------------------------------------------------------------------
    def _begin(self, fault: Fault) -> None:
        if fault.kind == "all":
            self._kill_all()
            return
        target = self._target(fault)
        if target is None or target in self._down:
            return
        if fault.kind in LINK_FAULTS:
            pair = (target, self.nodes[fault.other])
            is_whole = not any({*pair} == {*broken} for broken in self._broken.values())
            if len(self._broken) < LINKS_BROKEN_MAX and len({*pair}) == 2 and is_whole:
                self._broken[fault] = pair
                target.break_link(pair[1], fault.kind)
                self._tell(f"{fault.kind}: {target.name} and {pair[1].name}")
                self.faults_played += 1
        elif len(self._down) < (len(self.nodes) - 1) // 2:
            self._down[target] = fault
            self._tell(f"{fault.kind} {target.name}")
            (target.kill if fault.kind == "kill" else target.freeze)()
            self.faults_played += 1

    def _end(self, fault: Fault) -> None:
        pair = self._broken.pop(fault, None)
        if pair is not None:
            pair[0].mend_link(pair[1])
            self._tell(f"mend {pair[0].name} and {pair[1].name}")
        for node in [node for node, its in self._down.items() if its == fault]:
            (node.start if fault.kind == "kill" else node.thaw)()
            del self._down[node]
            self._tell(f"{'restart' if fault.kind == 'kill' else 'thaw'} {node.name}")

    def _kill_all(self) -> None:
        self._tell("kill all, restart all")
        for node in self.nodes:
            if node.is_running:
                node.kill()
        self._down.clear()
        start_all(self.nodes)
        self.faults_played += 1

    # --- looking -------------------------------------------------------------------------------------------------
    def _target(self, fault: Fault) -> RealNode | None:
        if fault.target is not None:
            return self.nodes[fault.target]
        seen = self._seen()
        return next((node for node in self.nodes if seen and node.name == seen["aggregator_name"]), None)

    def _seen(self) -> Json | None:
        """The newest view that any node has which can answer."""
        views = list(self._views())
        return max(views, key=lambda seen: (seen["term"], seen["round"]), default=None)

    def _views(self) -> Iterator[Json]:
        for node in self.nodes:
            if node.is_running and node not in self._down:
                with suppress(ClientError):  # it is starting
                    yield node.client.run(self._run)

    def _tell(self, what: str) -> None:
        seen = self._seen() or {"round": "?", "term": "?", "aggregator_name": "nobody"}
        at = time.monotonic() - self._begun
        stands = f"round {seen['round']}, term {seen['term']}, {seen['aggregator_name'] or 'nobody'} aggregates"
        self._say(f"{at:7.2f} s  {what:<40} ({stands})")


def check_agreement(study: Study, run: str, rounds: int, within_s: float) -> int:
    """The run has finished on every node, and no two hold different checkpoints of a round. Gives the last term.

    Whoever was away when the run ended, for so long that it had left the roster, learns of the end alone.
    """
    terms, at_the_end = [], 0
    for node in study.nodes:
        seen = node.wait_for_end(run, within_s)
        assert seen["state"] == "FINISHED", f"{node.name}: {seen}"
        terms.append(int(seen["term"]))
        at_the_end += seen["round"] == rounds
        assert "cannot both be honest" not in node.stderr()
    assert 2 * at_the_end > len(study.nodes), "no majority holds the last round"
    together: dict[int, str] = {}
    for node in study.nodes:
        for number, (checkpoint, _) in node.committed(run).items():
            assert together.setdefault(number, checkpoint) == checkpoint, f"two checkpoints of round {number}"
    # Of rounds before the last, records may be lost where all were killed at once; votes and checkpoints never are.
    assert rounds in together
    return max(terms)
