"""A node's state that flaps fills nobody's record, and in the end the record says how the node stands."""

from pathlib import Path
from typing import Any

import trio
from hostile_ground import HostileGround, on_hostile_ground

from node.record.state_gate import STATES_BURST, STATES_PER_S
from node.run.chronicle import Chronicle, Numbers
from protocol.keys import NodeId, RunId


class Rows:
    tells_of_others = True

    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []

    def add(self, *rows: Any) -> None:
        self.states += [(row.node_id, row.state) for row in rows]


class Told:
    """A run's chronicle by a clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 1_800_000_000.0
        self.rows = Rows()
        self.chronicle = Chronicle(
            RunId("ab" * 32),
            NodeId("me"),
            self.rows,  # type: ignore[arg-type]
            now=lambda: self.at,
            sequence=Numbers(lambda: 1.0),
            changed=lambda *_: None,
        )

    def flap(self, node: str, times: int, last: str) -> None:
        for number in range(times):
            self.chronicle.state(node, "TRAINING" if number % 2 else "READY", "")
        self.chronicle.state(node, last, "")


def test_states_that_flap_are_recorded_now_and_then_and_the_newest_in_the_end() -> None:
    told = Told()
    told.flap("a", 3000, "LOST")
    assert len(told.rows.states) == STATES_BURST
    told.chronicle.settle()
    assert len(told.rows.states) == STATES_BURST  # not yet
    told.at += 1 / STATES_PER_S
    told.chronicle.settle()
    assert told.rows.states[STATES_BURST:] == [("a", "LOST")]
    told.at += 1 / STATES_PER_S
    told.chronicle.settle()
    assert len(told.rows.states) == STATES_BURST + 1  # once


def test_one_that_flaps_hides_nobody_else() -> None:
    told = Told()
    told.flap("a", 100, "LOST")
    told.chronicle.state("b", "TRAINING", "")
    told.chronicle.state("", "RUNNING", "")
    assert told.rows.states[-2:] == [("b", "TRAINING"), ("", "RUNNING")]


def test_with_the_runs_end_everybodys_newest_state_is_recorded() -> None:
    told = Told()
    told.flap("a", 100, "LOST")
    told.flap("b", 100, "FAILED")
    told.chronicle.state("", "FINISHED", "")
    assert sorted(told.rows.states[2 * STATES_BURST :]) == [("", "FINISHED"), ("a", "LOST"), ("b", "FAILED")]
    told.chronicle.state("a", "FINISHED", "")  # comes after it
    assert told.rows.states[-1] == ("a", "FINISHED")


def test_a_node_that_flapped_and_is_quiet_is_recorded_as_it_stands(tmp_path: Path) -> None:
    """Also where no round is committed any more, as the others are gone."""

    async def test(ground: HostileGround) -> None:
        lives = await ground.group(2)
        run = await ground.propose(lives[0], rounds=100_000, nodes=2)
        known = lives[0].node.runs.known
        await ground.settled(lambda: run in known and known[run].driver is not None, "the start")
        lives[1].scope.cancel()
        await trio.sleep(60)  # virtual time: what was under way is through
        node = lives[0].node.identity.node_id
        before = len(await lives[0].node.record.query("statuses", run_id=run, node=node))
        for number in range(100):
            known[run].chronicle.state(node, "TRAINING" if number % 2 else "READY", "")
        known[run].chronicle.state(node, "UPLOADING", "")
        await trio.sleep(2 / STATES_PER_S)  # virtual time
        states = await lives[0].node.record.query("statuses", run_id=run, node=node)
        assert (0 < len(states) - before <= STATES_BURST + 2, states[-1]["state"]) == (True, "UPLOADING")

    on_hostile_ground(tmp_path, test)
