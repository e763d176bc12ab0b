"""The inbox where a member has several nodes: a further node is news of its own, and an old run asks nobody new."""

from functools import partial
from pathlib import Path

import trio
from hostile_ground import HostileGround, on_hostile_ground
from test_inbox import of_kind

from node.api.inbox.items import FURTHER_NODES_MAX, Joiner, joiner_items

HOUR = 3600


def test_a_further_node_of_a_member_leaves_its_admission_alone(tmp_path: Path) -> None:
    async def test(ground: HostileGround) -> None:
        ann, ben = await ground.group(2)
        (before,) = await of_kind(ann, "joiner")
        names = {"node-1"}
        for _ in range(2):
            await trio.sleep(480)  # virtual time passes
            machine = await ground.born()
            await machine.node.service.join((await ben.node.linker.make(HOUR)).token)
            names.add(machine.node.identity.name)
            node = machine.node.identity.node_id
            await ground.settled(partial(lambda it: ann.place.state().admits(it), node), "its admission", within_s=600)
        told = {each["title"]: each for each in await of_kind(ann, "joiner")}
        assert told.pop("node-1 came into hostile as member") == before
        assert sorted(told) == [f"node-1 has a new node in hostile: {name}" for name in sorted(names - {"node-1"})]
        own = [each for each in await of_kind(ben, "joiner") if "your own" in each["title"]]
        assert len(own) == 2
        assert "linked with a device token of yours" in own[0]["text"]
        assert f"fednode nodes revoke {own[0]['node_id'][:16]}" in own[0]["text"]

    on_hostile_ground(tmp_path, test)


def test_a_rack_of_machines_is_told_together() -> None:
    nodes = {f"n{number}": f"rack-{number}" for number in range(8)}
    rack = Joiner(member_id="M", name="Ben", role="member", nodes=nodes, by="ben", at=1e9, is_new=False, is_ours=False)
    (told,) = joiner_items([rack], "g", "study", 1e9)
    assert told["title"] == "Ben has new nodes in study: rack-0, rack-1, rack-2, rack-3, rack-4 and 3 more"
    assert len(nodes) > FURTHER_NODES_MAX


def test_a_node_that_comes_late_is_not_asked_about_a_run_that_is_over(tmp_path: Path) -> None:
    """Also while nobody is there who could tell it that the run is over."""

    async def test(ground: HostileGround) -> None:
        ann, ben, cleo = await ground.group(3)
        run = await ground.propose(ann, nodes=3)
        await ground.ended(run, [ann, ben, cleo])
        late = await ground.born()
        await late.node.service.set_policy([])
        await late.node.service.join((await ben.node.linker.make(HOUR)).token)
        asked = 0
        for _ in range(600):
            await trio.sleep(0.1)  # virtual time passes
            asked += len(await of_kind(late, "proposal"))
        assert run in late.node.runs.known
        assert asked == 0
        going = await ground.propose(ann, name="another", rounds=300, nodes=3)
        await ground.settled(lambda: going in late.node.runs.known, "the next run")
        assert [each["run_id"] for each in await of_kind(late, "proposal")] == [going]

    on_hostile_ground(tmp_path, test)
