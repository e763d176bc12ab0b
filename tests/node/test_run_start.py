"""Before a run goes on: answers to its proposal, its start, and the deadline for both. docs/protocol.md §6."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import trio

from node.data.shares import digits_split
from node.node import Node
from node.run.known_run import KnownRun
from protocol.limits import OPERATION_BYTES_MAX
from protocol.run.checkpoint import Declined, Ready, RunStart, open_ready, sign_note
from protocol.run.messages import DeclinedMessage, ReadyMessage
from protocol.wire import pack, unpack
from simulations.nodes.simulated_node import live
from simulations.simulate import CONFIGURATION
from simulations.world.deterministic import run_deterministically, until
from simulations.world.network import SimulatedWorld
from simulations.world.record import SharedStore

NODES = 3
JOIN_DEADLINE_S = 120.0

Test = Callable[[list[Node]], Awaitable[None]]


def in_a_group(test: Test, folder: Path) -> None:
    """Three real nodes in virtual time, one group; the last has no data, and so declines every run."""

    async def main() -> None:
        world, shared = SimulatedWorld(Random(1)), SharedStore(folder / "store.duckdb")
        paths = digits_split(NODES).write(folder / "data")
        async with trio.open_nursery() as nursery:
            await nursery.start(world.run)
            nodes: list[Node] = []
            for number in range(NODES):
                home = folder / f"node-{number}"
                home.mkdir()
                nodes.append(await nursery.start(live, number, 1, world, shared, home))
            with trio.fail_after(3600):
                await _form_group(nodes, paths)
                await test(nodes)
            nursery.cancel_scope.cancel()
        shared.close()

    run_deterministically(1, main)


async def _form_group(nodes: list[Node], paths: list[Path]) -> None:
    founder, *others = nodes
    await founder.service.create_group("three")
    token = (await founder.service.invite(None, "member", len(others), 86_400))["token"]
    for node in others:
        await node.service.join(token)
    for node, path in zip(nodes, paths, strict=True):
        await node.service.set_policy(["all"])
        if node is not nodes[-1]:
            await node.service.data_add("digits", str(path), {})


async def propose(by: Node, nodes_min: int) -> KnownRun:
    text = CONFIGURATION.format(seed=1, rounds=1, nodes=nodes_min) + f"join_deadline_s = {JOIN_DEADLINE_S}\n"
    run = await by.service.start_run(text, None, None, {})
    return by.runs.known[run["run_id"]]


def test_a_run_that_too_few_join_has_failed_when_its_deadline_passes(tmp_path: Path) -> None:
    """§6.6: its proposer stops it, and it is FAILED everywhere; §6.2: who has no such data says so."""

    async def test(nodes: list[Node]) -> None:
        proposed_at = trio.current_time()
        known = await propose(nodes[0], nodes_min=NODES)
        declined = nodes[2].identity.node_id
        await until(lambda: declined in known.declined)
        assert known.declined[declined] == "it has no data set of that name"
        assert set(known.answers) == {nodes[0].identity.node_id, nodes[1].identity.node_id}
        await until(lambda: all(_is_stopped(node, known) for node in nodes))
        # The log tells whole seconds.
        assert JOIN_DEADLINE_S - 1 <= trio.current_time() - proposed_at < JOIN_DEADLINE_S + 30
        for node in nodes:
            await node.record.flush()
            seen = await node.service.run(known.run_id)
            assert seen["state"] == "FAILED"
            assert "2 of at least 3 nodes were ready when the join deadline passed" in seen["reason"]
        assert known.entry.start is None
        assert known.driver is None

    in_a_group(test, tmp_path)


def test_a_run_whose_rounds_could_never_have_their_updates_is_not_started(tmp_path: Path) -> None:
    """§6.6: enough nodes are ready, and too few of them train."""

    async def test(nodes: list[Node]) -> None:
        text = CONFIGURATION.format(seed=1, rounds=1, nodes=2) + f"join_deadline_s = {JOIN_DEADLINE_S}\n"
        text += f'[roster.roles]\n{nodes[1].identity.node_id} = "validator"\n[round]\nupdates_min = 2\n'
        run = await nodes[0].service.start_run(text, None, None, {})
        known = nodes[0].runs.known[run["run_id"]]
        await until(lambda: all(_is_stopped(node, known) for node in nodes))
        assert len(known.answers) == 2
        await nodes[0].record.flush()
        reason = (await nodes[0].service.run(known.run_id))["reason"]
        assert "2 nodes were ready, and 1 of them train: a round has 1 updates then" in reason
        assert known.entry.start is None

    in_a_group(test, tmp_path)


def test_a_start_names_those_who_signed_that_they_are_ready(tmp_path: Path) -> None:
    """§6.2, §6.4, §6.5."""

    async def test(nodes: list[Node]) -> None:
        known = await propose(nodes[0], nodes_min=2)
        await until(lambda: known.entry.start is not None)
        assert known.entry.start is not None
        start = unpack(RunStart, known.entry.start, OPERATION_BYTES_MAX)
        ready = [open_ready(raw).body for raw in start.roster]
        assert {note.node for note in ready} == {nodes[0].identity.node_id, nodes[1].identity.node_id}
        assert {note.run for note in ready} == {known.run_id}
        mine = [nodes[0].runs.known[known.run_id], nodes[1].runs.known[known.run_id]]
        await until(lambda: all(each.driver is not None for each in mine))
        assert len({each.driver.machine.ledger.zero.name for each in mine if each.driver is not None}) == 1

    in_a_group(test, tmp_path)


def test_what_participants_signed_is_recorded_and_stays(tmp_path: Path) -> None:
    """Role and fingerprint of their data, from the start on, in every record; a round's rows keep them."""

    async def recorded(node: Node, run: str) -> dict[str, tuple[str, str, int]]:
        await node.record.flush()
        statement = f"SELECT node_id, role, data_fingerprint, samples FROM participants WHERE run_id = '{run}'"
        _, rows, _ = await node.record.sql(statement, 10)
        return {row[0]: (row[1], row[2], row[3]) for row in rows}

    async def test(nodes: list[Node]) -> None:
        known = await propose(nodes[0], nodes_min=2)
        sets = {node.identity.node_id: (await node.service.data_list())[0] for node in nodes[:2]}
        await until(lambda: known.entry.start is not None)
        ours = nodes[1].runs.known[known.run_id]
        await until(lambda: ours.driver is not None)
        started = await recorded(nodes[1], known.run_id)
        assert started == {node: ("trainer", entry["fingerprint"], 0) for node, entry in sets.items()}
        assert all(fingerprint for _, fingerprint, _ in started.values())
        await until(lambda: ours.driver is not None and ours.driver.machine.ledger.has_ended)
        ended = await recorded(nodes[1], known.run_id)
        assert {node: row[:2] for node, row in ended.items()} == {node: row[:2] for node, row in started.items()}
        assert all(samples > 0 for _, _, samples in ended.values())

    in_a_group(test, tmp_path)


def test_answers_in_anothers_name_count_for_nothing(tmp_path: Path) -> None:
    """§6.2: the note is signed by the node that it speaks for, names this very run, and comes from that node."""

    async def test(nodes: list[Node]) -> None:
        known = await propose(nodes[0], nodes_min=NODES)
        proposer, liar, victim = (node.identity for node in nodes)
        await until(lambda: victim.node_id in known.declined and liar.node_id in known.answers)
        ready = Ready(run=known.run_id, node=victim.node_id, role="trainer", data_fingerprint="", capacity_class=1)
        declined = Declined(run=known.run_id, node=proposer.node_id, code="no", reason="I am not asked")
        other_run = pack(ready.model_copy(update={"run": "ab" * 32, "node": liar.node_id}))
        for message in (
            ReadyMessage(run=known.run_id, ready=sign_note(liar.keys.node, ready)),
            ReadyMessage(run=known.run_id, ready=sign_note(victim.keys.node, ready)),
            ReadyMessage(run=known.run_id, ready=sign_note(liar.keys.node, unpack(Ready, other_run, 4096))),
            DeclinedMessage(run=known.run_id, declined=sign_note(liar.keys.node, declined)),
        ):
            nodes[1].runs.send(proposer.node_id, message)
        with trio.move_on_after(20):
            await until(lambda: known.entry.stop is not None)
        assert set(known.answers) == {proposer.node_id, liar.node_id}
        assert set(known.declined) == {victim.node_id}
        note = open_ready(known.answers[liar.node_id]).body
        assert (note.node, note.run) == (liar.node_id, known.run_id)

    in_a_group(test, tmp_path)


def _is_stopped(node: Node, known: KnownRun) -> bool:
    return known.run_id in node.runs.known and node.runs.known[known.run_id].entry.stop is not None
