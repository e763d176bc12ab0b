"""What a member with valid keys can write into a group's log must end nobody's node."""

import logging
from pathlib import Path
from random import Random

import pytest
import trio
from hostile_ground import HostileGround, Life, alive, on_hostile_ground

from node.membership.group_keys import HandedKey
from node.network.complaints import COMPLAINTS_BURST
from protocol.group.address_record import open_address_record
from protocol.group.operations import OPERATION_TAG, Operation
from protocol.group.sync import SyncMessage
from protocol.limits import ADDRESSES_MAX
from protocol.signing import sign
from protocol.wire import pack


async def gossip(life: Life, kind: bytes, body: bytes) -> None:
    """Have the node of `life` spread what its own node would not."""
    place = life.place
    await life.node.network.publish(place.topic, place.seal(kind + body, Random(1).randbytes))


def unknown_operation(life: Life, *, critical: bool) -> bytes:
    """An operation of a kind that no node knows, well signed and well placed."""
    log = life.place.log
    body = Operation(
        group=log.group,
        parents=tuple(sorted(log.heads())),
        previous=log.tip_of(life.node.identity.node_id),
        kind="future.kind",
        critical=critical,
        payload=b"",
        claimed_at=0,
    )
    return sign(life.key, OPERATION_TAG, body)


def test_an_operation_that_only_newer_nodes_know_ends_nobody(tmp_path: Path) -> None:
    """§2.11: they say that they are too old, do not act on the group's state any more, and live."""

    async def main(ground: HostileGround) -> None:
        honest, other, hostile = await ground.group(3)
        await gossip(hostile, b"o", unknown_operation(hostile, critical=True))
        await trio.sleep(120)  # virtual time passes
        alive(honest, other)
        for life in (honest, other):
            assert not life.node.groups.admits(hostile.node.identity.node_id)
            assert (await life.node.service.status())["groups"][0]["name"] == "hostile"
            await life.node.service.groups()
        await honest.node.service.create_group("another")
        await ground.restart(honest)
        await trio.sleep(120)  # virtual time passes
        alive(honest)
        assert len(honest.node.groups.places) == 2

    on_hostile_ground(tmp_path, main)


def test_a_full_disk_ends_no_node(tmp_path: Path) -> None:
    """What could not be kept is kept, and acted on, once there is room; no peer has to send it again."""

    async def main(ground: HostileGround) -> None:
        first, second = await ground.group(2)
        second.disk.is_full = True
        run = await ground.propose(first, nodes=1, rounds=1)
        await ground.ended(run, [first])
        await trio.sleep(600)  # virtual time: presence, addresses, anti-entropy: all want the disk
        alive(first, second)
        assert run not in second.node.runs.known
        second.disk.is_full = False
        await ground.settled(lambda: run in second.node.runs.known, "the run is known", 120)
        heads = set(first.place.log.heads())
        await ground.restart(second)
        assert set(second.place.log.heads()) == heads

    on_hostile_ground(tmp_path, main)


def test_a_node_with_very_many_addresses_announces_some(tmp_path: Path) -> None:
    """A machine with many bridges and containers has more addresses than an announcement may hold."""

    async def main(ground: HostileGround) -> None:
        first, second = await ground.group(2)
        many = [f"/ip4/192.0.2.{number}/tcp/4001" for number in range(40)]
        first.node.network.addresses = lambda: many  # type: ignore[method-assign]
        first.node.network.entrance_addresses = lambda: many  # type: ignore[method-assign]
        await trio.sleep(300)  # virtual time passes
        alive(first, second)
        await first.node.service.invite(None, "member", 1, 3600)
        heard = second.place.book.last(first.node.identity.node_id)
        assert heard is not None
        assert len(open_address_record(heard.presence.where).addresses) == ADDRESSES_MAX

    on_hostile_ground(tmp_path, main)


def test_what_cannot_stand_fills_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """§5.4, §5.12: a member that compares forged operations and hands on false keys, 100 times, is told of a few times:
    else it would push what else it did out of the log."""

    async def main(ground: HostileGround) -> None:
        honest, hostile, gone = await ground.group(3)
        await honest.node.service.memberships.remove("hostile", gone.node.identity.member_id, "")
        await trio.sleep(60)  # virtual time passes: there is a new key
        place, peer = honest.place, hostile.node.identity.node_id
        epoch = max(place.state().rotations)
        del place.keys[epoch]
        caplog.clear()
        caplog.set_level(logging.WARNING, logger="fednode.groups")
        forged = unknown_operation(hostile, critical=False)[:-1] + b"!"
        compared = pack(SyncMessage(group=place.group, opens=True, digest="0" * 64, holds=(), operations=(forged,)))
        false = pack(HandedKey(group=place.group, epoch=epoch, sealed=bytes(80)))
        for _ in range(100):
            await honest.node.groups.on_sync(peer, compared)
            await honest.node.groups.keys.on_message(peer, false)
        told = [record.getMessage() for record in caplog.records]
        for words in ("cannot stand", "a key that is none"):
            assert 0 < sum(words in line for line in told) <= COMPLAINTS_BURST

    on_hostile_ground(tmp_path, main)
