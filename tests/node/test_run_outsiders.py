"""Runs seen by nodes that declined, left, or came back, in a simulated group of the real node code."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest
import trio

from node.data.shares import digits_split
from node.node import Node
from node.run.known_run import KnownRun
from protocol.errors import Refused
from protocol.keys import RunId
from simulations.nodes.simulated_node import live
from simulations.simulate import CONFIGURATION
from simulations.world.deterministic import run_deterministically, until
from simulations.world.network import SimulatedWorld
from simulations.world.record import SharedStore

Scenario = Callable[[list[Node]], Awaitable[None]]


def play(tmp_path: Path, nodes: int, scenario: Scenario) -> None:
    """`scenario` in a group of `nodes` that all have data; each keeps a store of its own."""

    async def main() -> None:
        world = SimulatedWorld(Random(1))
        paths = digits_split(nodes).write(tmp_path / "data")
        stores: list[SharedStore] = []
        async with trio.open_nursery() as nursery:
            await nursery.start(world.run)
            group: list[Node] = []
            for number, path in enumerate(paths):
                folder = tmp_path / f"node-{number}"
                folder.mkdir()
                shared = SharedStore(tmp_path / f"store-{number}.duckdb")
                stores.append(shared)
                node = await nursery.start(live, number, 1, world, shared, folder)
                await node.service.data_add("digits", str(path), {})
                group.append(node)
            await group[0].service.create_group("group")
            invitation = await group[0].service.invite(None, "member", nodes, 86_400)
            for node in group[1:]:
                await node.service.join(invitation["token"])
            with trio.fail_after(3600):
                await scenario(group)
            nursery.cancel_scope.cancel()
        for shared in stores:
            shared.close()

    run_deterministically(1, main)


async def propose(node: Node, name: str, *, nodes: int, rounds: int = 3) -> RunId:
    text = CONFIGURATION.format(seed=1, rounds=rounds, nodes=nodes).replace("simulation", name, 1)
    return RunId((await node.service.start_run(text, None, None, {}))["run_id"])


def known(node: Node, run: RunId) -> KnownRun | None:
    return node.runs.known.get(run)


def has_started(node: Node, run: RunId) -> bool:
    found = known(node, run)
    return found is not None and found.driver is not None


def has_ended(node: Node, run: RunId) -> bool:
    found = known(node, run)
    return found is not None and found.driver is not None and found.driver.ended.is_set()


def test_who_declines_still_learns_how_the_run_ends(tmp_path: Path) -> None:
    async def scenario(group: list[Node]) -> None:
        for node in group[:2]:
            await node.service.set_policy(["all"])
        run = await propose(group[0], "study", nodes=2)
        await until(lambda: known(group[2], run) is not None)
        await group[2].service.decline(run, "busy")
        await until(lambda: all(has_ended(node, run) for node in group[:2]))
        outsider = known(group[2], run)
        assert outsider is not None
        await until(lambda: outsider.is_over)
        seen = await group[2].service.run(run)
        assert (seen["state"], seen["round"], seen["decision"]) == ("FINISHED", 3, "declined")
        with pytest.raises(Refused, match="is over"):
            await group[2].service.accept(run, None)

    play(tmp_path, 3, scenario)


def test_who_proposes_a_run_need_not_take_part(tmp_path: Path) -> None:
    """The starting model is the proposer's, and the others get it from there."""

    async def scenario(group: list[Node]) -> None:
        for node in group[1:]:
            await node.service.set_policy(["all"])
        run = await propose(group[0], "study", nodes=2)
        await group[0].service.decline(run, "others have the data")
        await until(lambda: all(has_ended(node, run) for node in group[1:]))
        proposed = known(group[0], run)
        assert proposed is not None
        await until(lambda: proposed.is_over)
        assert (await group[0].service.run(run))["state"] == "FINISHED"

    play(tmp_path, 3, scenario)


def test_an_owner_may_leave_a_run_and_the_others_go_on(tmp_path: Path) -> None:
    async def scenario(group: list[Node]) -> None:
        for node in group:
            await node.service.set_policy(["all"])
        run = await propose(group[0], "study", nodes=4, rounds=20)
        await until(lambda: all(has_started(node, run) for node in group))
        leaver = group[3]
        await leaver.service.decline(run, "I need the machine")
        left = known(leaver, run)
        assert left is not None
        assert left.driver is None
        await until(lambda: all(has_ended(node, run) for node in group[:3]))
        rounds = await group[0].service.rounds(run)
        assert [row["round"] for row in rounds] == list(range(1, 21))
        await until(lambda: left.is_over)
        assert (await leaver.service.run(run))["state"] == "FINISHED"

    play(tmp_path, 4, scenario)


def test_one_who_accepts_late_is_taken_in(tmp_path: Path) -> None:
    """§6.4."""

    async def scenario(group: list[Node]) -> None:
        for node in group[:2]:
            await node.service.set_policy(["all"])
        run = await propose(group[0], "study", nodes=2, rounds=40)
        await until(lambda: all(has_started(node, run) for node in group[:2]))
        await until(lambda: known(group[2], run) is not None)
        await group[2].service.accept(run, None)
        await until(lambda: all(has_ended(node, run) for node in group))
        rounds = await group[0].service.rounds(run)
        assert rounds[0]["updates_used"] == 2
        assert rounds[-1]["updates_used"] == 3

    play(tmp_path, 3, scenario)


def test_a_second_run_has_its_figures_too(tmp_path: Path) -> None:
    async def scenario(group: list[Node]) -> None:
        for node in group:
            await node.service.set_policy(["all"])
        for name in ("first", "second"):
            run = await propose(group[0], name, nodes=2)
            await until(lambda run=run: all(has_ended(node, run) for node in group))  # type: ignore[misc]
            for node in group:
                seen = await node.service.run(run)
                assert seen["accuracy"] is not None
                ours = [entry for entry in seen["participants"] if entry["node_id"] == node.identity.node_id]
                assert [entry["state"] for entry in ours] == ["FINISHED"]

    play(tmp_path, 2, scenario)
