"""New keys where somebody is put out again and again, and two joiners whom one invitation let in (docs/protocol.md
§3.46, §5.10, §5.11).

Real nodes in a simulated network, in virtual time.
"""

from pathlib import Path

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hostile_ground import HostileGround, Life, alive, on_hostile_ground

from node.membership.group_keys import KEYS_KEPT, ROTATE_GAP_S
from protocol.group.key import seal_key_of
from protocol.group.operation_kinds import KeyRotate, NodeBind, NodeRevoke
from protocol.identity import make_certificate, make_revocation
from protocol.keys import NodeId, node_id_of, public_key_of


def rotations(life: Life) -> int:
    return sum(isinstance(operation.payload, KeyRotate) for operation in life.place.log)


def node_id(life: Life) -> NodeId:
    return life.node.identity.node_id


def member_key(life: Life) -> Ed25519PrivateKey:
    key = life.node.identity.keys.member
    assert key is not None
    return key


def test_a_member_that_revokes_its_nodes_for_ever_makes_nobody_seal_keys_for_ever(tmp_path: Path) -> None:
    """§5.11: the first new key comes soon; then they come no closer than the gap, and old ones are forgotten."""

    async def main(ground: HostileGround) -> None:
        first, second, third = await ground.group(3)
        began, cycles = trio.current_time(), 150
        for number in range(cycles):
            key = Ed25519PrivateKey.from_private_bytes(bytes([7, number]) * 16)
            certificate = make_certificate(
                member_key(second),
                key,
                member_name="node-1",
                node_name=f"more-{number}",
                seal_key=seal_key_of(bytes([8, number]) * 16),
                issued_at=number,
            )
            revocation = make_revocation(member_key(second), node_id_of(public_key_of(key)), issued_at=number)
            for payload in (NodeBind(certificate=certificate), NodeRevoke(revocation=revocation)):
                await second.node.groups.say(second.place, payload)
            await trio.sleep(10)  # virtual time passes
            assert number > 2 or rotations(first) <= 1
        most = 1 + (trio.current_time() - began) / ROTATE_GAP_S
        assert KEYS_KEPT < rotations(first) <= most
        await ground.settled(lambda: all(life.place.good_here() for life in (first, second, third)), "a good key")
        for life in (first, second, third):
            assert len(life.place.keys) <= KEYS_KEPT + 1

    on_hostile_ground(tmp_path, main)


def test_of_two_joiners_with_one_invitation_one_is_told_that_it_is_out(tmp_path: Path) -> None:
    """§3.46: two members let them in while the network is parted; then all agree, the key is made anew, and the owner
    of who is out reads why. By another invitation it comes in."""

    async def main(ground: HostileGround) -> None:
        first, second = members = await ground.group(2)
        joiners = [await ground.born(), await ground.born()]
        token = (await first.node.service.invite(None, "member", 1, 86_400))["token"]
        await ground.settled(lambda: len(second.place.log) == len(first.place.log), "the invitation")
        sides = [[node_id(host), node_id(joiner)] for host, joiner in zip(members, joiners, strict=True)]
        ground.world.partition(sides)
        for joiner in joiners:
            await joiner.node.service.join(token)
        assert all(joiner.place.admits(node_id(joiner)) for joiner in joiners)
        ground.world.heal()
        await ground.settled(lambda: all(len(life.place.state().former) == 1 for life in members), "one is out")
        (former,) = first.place.state().former.values()
        assert former.void == "used-up"
        loser, winner = sorted(joiners, key=lambda life: node_id(life) not in former.nodes)
        inside = (*members, winner)
        await ground.settled(lambda: all(life.place.key.epoch > 0 for life in inside), "a new key")
        assert winner.place.key == first.place.key
        assert first.place.key.epoch not in loser.place.keys
        assert not any(life.node.groups.admits(node_id(loser)) for life in inside)
        await ground.settled(lambda: loser.place.turned_away or loser.place.out(), "the loser is told")
        (group,) = await loser.node.service.groups()
        told = group["out"]["text"] if group["out"] else group["turned_away"]
        assert "another joiner was admitted first with this invitation; ask for a new one" in told
        await loser.node.service.join((await first.node.service.invite(None, "member", 1, 86_400))["token"])
        await ground.settled(lambda: all(life.place.admits(node_id(loser)) for life in inside), "it is in")
        await ground.settled(lambda: loser.place.key == first.place.key, "it has the key")
        assert loser.place.out() is None
        alive(*members, *joiners)

    on_hostile_ground(tmp_path, main)
