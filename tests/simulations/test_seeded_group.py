"""A group that is placed on its nodes' disks is the one that joining would have made, and works as such."""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import trio
import trio.testing
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.home.identity import Keys, load_identity
from node.membership.group_place import load_place
from protocol.keys import GroupId
from simulations.nodes.seeded_group import Placed, place_group
from simulations.world.disk import SimulatedDisk
from simulations.world.network import SimulatedWorld

NOW_S = 1_767_225_600
SCALING = Path(__file__).resolve().parents[1] / "scaling.py"


def keys(random: Random) -> Keys:
    node, member = (Ed25519PrivateKey.from_private_bytes(random.randbytes(32)) for _ in range(2))
    return Keys(node, member, random.randbytes(32))


def placed(count: int, seed: int = 1) -> list[Placed]:
    random = Random(seed)
    return [Placed(keys(random), f"node-{number}", SimulatedDisk()) for number in range(count)]


def place(nodes: list[Placed], seed: int = 1) -> GroupId:
    async def main() -> GroupId:
        return await place_group(SimulatedWorld(Random(seed)), nodes, "ward", now_s=NOW_S, random=Random(seed))

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_every_node_finds_itself_and_all_others_in_the_group() -> None:
    nodes = placed(5)
    group = place(nodes)

    async def main() -> None:
        states, secrets = [], set()
        for node in nodes:
            identity = await load_identity(node.keys, node.name, node.name, node.disk, lambda: NOW_S)
            found = await load_place(group, node.disk, identity)
            assert found.state().admits(identity.node_id)
            states.append(found.state())
            secrets.add(found.key.secret)
        assert len(secrets) == 1
        assert all(state == states[0] for state in states)
        assert [member.role for member in states[0].members.values()] == ["admin", *["member"] * 4]
        assert [entry.name for entry in states[0].nodes.values()] == [f"node-{number}" for number in range(5)]
        assert not states[0].refused
        (invitation,) = states[0].invitations.values()
        assert (invitation.used, invitation.uses) == (4, 4)

    trio.run(main)


def test_the_same_arguments_give_the_same_group_and_others_another() -> None:
    assert place(placed(3)) == place(placed(3))
    assert place(placed(3)) != place(placed(3), seed=2)


def test_one_can_be_alone_in_a_group_and_nodes_in_several() -> None:
    nodes = placed(2)
    first, second = place(nodes), place(nodes[:1], seed=3)
    assert first != second

    async def main() -> None:
        identity = await load_identity(nodes[0].keys, "node-0", "node-0", nodes[0].disk, lambda: NOW_S)
        for group, count in ((first, 2), (second, 1)):
            assert len((await load_place(group, nodes[0].disk, identity)).state().nodes) == count

    trio.run(main)


def test_a_run_of_placed_nodes_is_the_same_in_every_process(tmp_path: Path) -> None:
    def run(hash_seed: str) -> dict[str, object]:
        folder = tmp_path / hash_seed
        folder.mkdir()
        command = [sys.executable, str(SCALING), "--play", "12", "3", str(folder)]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
        told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        return told

    one, other = run("1"), run("2")
    assert (one["outcome"], one["rounds"]) == ("FINISHED", 3)
    assert [one[key] for key in ("trace", "messages")] == [other[key] for key in ("trace", "messages")]
