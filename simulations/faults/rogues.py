"""Members that do not keep the group's rules: with the right keys, and rightly signed, and wrong all the same.

What they do is called by names (`simulations.plan.scenario.MemberLie`). Everything here goes past the node's own
checks, which would refuse it, and out by the node's own ways, as a member's altered program would send it.
"""

from collections.abc import Iterator
from random import Random

import trio

from node.membership.group_place import GroupPlace
from node.node import Node
from protocol.errors import FednodeError
from protocol.group.operation_kinds import KeyRotate, MemberRemove, Payload, RulingWitness
from protocol.group.operations import OpenOperation, sign_operation
from protocol.keys import Hash
from simulations.nodes.simulated_node import EPOCH_S, SimulatedNode

MEMBER_LIES = ("fork", "backdate", "flood", "garbage")
LIE_EVERY_S = 3.0
LIES_MAX = 25  # of one rogue: what it says stays in everybody's log for ever
FLOOD_AT_ONCE = 20  # operations: in all, as many as an honest member says in years
NOISE_BYTES = 300
_OPERATION = b"o"  # the first byte of an operation that is gossiped, as node.membership.groups has it


async def misbehave(rogue: SimulatedNode, lie: str, seed: int) -> None:
    """Lie so, every few seconds while its node is up and in the group; until it has lied enough, or is cancelled."""
    random = Random(f"rogue {rogue.number} of {seed}")
    for _ in range(LIES_MAX):
        await trio.sleep(LIE_EVERY_S)
        node = rogue.node
        place = next(iter(node.groups.places.values()), None) if node is not None else None
        if node is None or place is None or not place.admits(rogue.node_id):
            continue
        try:
            for plain in _said(rogue, place, lie, random):
                await node.groups._publish(place, plain)
            if lie == "garbage":
                await _say_garbage(node, place, random)
        except FednodeError:
            continue  # its disk, or its network: a rogue has them too


def _said(rogue: SimulatedNode, place: GroupPlace, lie: str, random: Random) -> Iterator[bytes]:
    """What the group's other nodes are told, before it is sealed."""
    log, key = place.log, rogue.keys.key
    heads = tuple(sorted(log.heads())[:8])
    previous = log.tip_of(rogue.node_id)
    first = next(iter(log))
    now = int(EPOCH_S + trio.current_time())

    def signed(payload: Payload, parents: tuple[Hash, ...], before: Hash, at: int) -> bytes:
        raw = sign_operation(key, payload, group=log.group, parents=parents, previous=before, claimed_at=at)
        return _OPERATION + raw

    match lie:
        case "fork":  # two operations of one place in its chain
            yield signed(RulingWitness(), heads, previous, now)
            yield signed(RulingWitness(), heads, previous, now + 1 + random.randrange(1000))
        case "backdate":  # onto the group's beginning, as if it had been an admin then
            founder = log[first.hash].certificate
            assert founder is not None
            yield signed(MemberRemove(member=founder.member_id, reason="long ago"), (first.hash,), previous, 0)
            yield signed(KeyRotate(epoch=1, commitment=Hash("0" * 64), sealed=b"\0"), (first.hash,), previous, 0)
        case "flood":
            yield from (_OPERATION + each.raw for each in _chain(rogue, place, now))


def _chain(rogue: SimulatedNode, place: GroupPlace, now: int) -> Iterator[OpenOperation]:
    """Operations of no use, each after the one before, in its own log too."""
    log = place.log
    for _ in range(FLOOD_AT_ONCE):
        raw = sign_operation(
            rogue.keys.key,
            RulingWitness(),
            group=log.group,
            parents=tuple(sorted(log.heads())[:8]),
            previous=log.tip_of(rogue.node_id),
            claimed_at=now,
        )
        yield from log.add(raw).added


async def _say_garbage(node: Node, place: GroupPlace, random: Random) -> None:
    """No sense on the group's topic: in the clear, under the group's key, and under every key that it ever had."""
    noise = random.randbytes(NOISE_BYTES)
    await node.network.publish(place.topic, noise)
    await node.groups._publish(place, noise)
    await node.groups._publish(place, _OPERATION + noise)
    newest = place.good_here()
    for epoch in sorted(place.keys):
        if epoch not in newest:
            old = GroupPlace(place.log, {epoch: place.keys[epoch]}, node.disk, node.identity)
            await node.network.publish(place.topic, old.seal(_OPERATION + noise, random.randbytes))
