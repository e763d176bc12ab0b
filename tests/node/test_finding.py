"""Nodes that find each other again: address books, questions, hints, pauses (docs/protocol.md §12)."""

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import segno
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hostile_ground import HostileGround, Life, alive, on_hostile_ground
from network_ground import Ground, run_on_simulated

from node.membership.address_book import ADDRESSES, AddressBook, pack_records
from node.membership.announcer import Announcer
from node.membership.neighbours import BRIEF_ENTRANCES_MAX, worth_knocking
from node.membership.whereabouts import ADDRESS_CHANNEL
from node.network.links import HURRY_LAST_S, HURRY_S, Links
from node.seams import Unreachable
from protocol.entrance.invitation import read_token
from protocol.errors import RemoteProtocolError
from protocol.fields import NodeAddresses
from protocol.group.address_record import (
    SEQUENCE_MAX,
    AddressesAsked,
    AddressesTold,
    AddressRecord,
    Held,
    make_address_record,
    open_address_message,
    open_address_record,
)
from protocol.group.presence import Capacity, group_of
from protocol.keys import GroupId, NodeId, node_id_of, public_key_of
from protocol.limits import ADDRESSES_MAX, ANTI_ENTROPY_S, HINTS_MAX, REDIAL_FIRST_S, REDIAL_LAST_S
from protocol.wire import pack
from simulations.world.disk import SimulatedDisk

DOOR, OTHER_DOOR = "/ip4/192.0.2.7/tcp/4001", "/ip4/192.0.2.8/tcp/4001"
NEARBY = "/ip4/10.0.0.9/tcp/4001", "/ip4/10.0.0.9/tcp/4002"
ME = NodeId("me")


def key(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))


def node(number: int) -> NodeId:
    return node_id_of(public_key_of(key(number)))


def record(number: int, *addresses: str, sequence: int = 1, by: Ed25519PrivateKey | None = None) -> bytes:
    body = AddressRecord(node_id=node(number), addresses=addresses, entrance_addresses=(), sequence=sequence)
    return make_address_record(by or key(number), body)


class Learned:
    """What an address book tells the network, and of whom it says that they may be found elsewhere."""

    def __init__(self) -> None:
        self.addresses: dict[NodeId, tuple[str, ...]] = {}
        self.entrances: dict[NodeId, tuple[str, ...]] = {}
        self.changed: list[NodeId] = []

    def learn(self, peer: NodeId, addresses: Sequence[str], entrance_addresses: Sequence[str] = ()) -> None:
        self.addresses[peer] = tuple(addresses)
        self.entrances[peer] = tuple(entrance_addresses)

    def book(self, disk: SimulatedDisk | None = None) -> AddressBook:
        return AddressBook(self, disk or SimulatedDisk(), ME, self.changed.append)  # type: ignore[arg-type]


# --- the book --------------------------------------------------------------------------------------------------
def test_the_newest_record_counts_and_an_older_one_does_not():
    """§12.2: whoever brings an old one, as a replayed announcement would."""
    learned = Learned()
    book = learned.book()
    book.learn(record(1, DOOR, sequence=5))
    book.learn(record(1, OTHER_DOOR, sequence=4))
    book.learn(record(1, OTHER_DOOR, sequence=5))
    assert learned.addresses[node(1)] == (DOOR,)
    book.learn(record(1, OTHER_DOOR, sequence=6))
    assert learned.addresses[node(1)] == (OTHER_DOOR,)
    assert learned.changed == [node(1), node(1)]


def test_a_record_that_another_has_signed_changes_nothing():
    """§12.1"""
    learned = Learned()
    book = learned.book()
    book.learn(record(1, DOOR))
    with pytest.raises(RemoteProtocolError):
        book.learn(record(1, OTHER_DOOR, sequence=9, by=key(2)))
    assert learned.addresses[node(1)] == (DOOR,)
    assert book.of(node(1)) == NodeAddresses(node_id=node(1), addresses=(DOOR,))


def test_a_hint_is_tried_last_and_replaces_nothing():
    """§12.5: not before a record comes, not after."""
    learned = Learned()
    book = learned.book()
    book.hint(node(1), *NEARBY)
    assert (learned.addresses[node(1)], learned.entrances[node(1)]) == ((NEARBY[0],), (NEARBY[1],))
    assert book.is_findable(node(1))
    assert book.of(node(1)) is None
    assert book.record(node(1)) is None
    book.learn(record(1, DOOR))
    book.hint(node(1), *NEARBY)
    assert learned.addresses[node(1)] == (DOOR, NEARBY[0])
    assert book.of(node(1)) == NodeAddresses(node_id=node(1), addresses=(DOOR,))
    book.learn(record(1, OTHER_DOOR, sequence=2))
    assert learned.addresses[node(1)] == (OTHER_DOOR, NEARBY[0])


def test_hints_about_one_node_are_few_and_the_newest():
    """§12.7"""
    learned = Learned()
    book = learned.book()
    book.learn(record(1, DOOR))
    for number in range(1000):
        book.hint(node(1), f"/ip4/10.0.0.9/tcp/{number + 1}", f"/ip4/10.0.0.9/tcp/{number + 2}")
    assert learned.addresses[node(1)] == (DOOR, *(f"/ip4/10.0.0.9/tcp/{port}" for port in range(997, 1001)))
    assert len(book.hints(node(1))) == HINTS_MAX


def test_a_token_takes_no_signed_address_away():
    """§12.5: somebody's token may name a node that is known from another group."""
    learned = Learned()
    book = learned.book()
    book.learn(record(1, DOOR))
    book.told(NodeAddresses(node_id=node(1), addresses=(OTHER_DOOR,), entrance_addresses=(NEARBY[1],)))
    assert learned.addresses[node(1)] == (DOOR, OTHER_DOOR)
    assert learned.entrances[node(1)] == (NEARBY[1],)
    assert book.of(node(1)) == NodeAddresses(node_id=node(1), addresses=(DOOR,))


def test_records_are_kept_over_a_restart_and_hints_are_not():
    """§12.5"""

    async def main() -> None:
        disk = SimulatedDisk()
        book = Learned().book(disk)
        book.learn(record(1, DOOR))
        book.hint(node(2), *NEARBY)
        await book.save()
        learned = Learned()
        again = learned.book(disk)
        await again.load()
        assert learned.addresses == {node(1): (DOOR,)}
        assert again.record(node(1)) == record(1, DOOR)

    trio.run(main)


@pytest.mark.parametrize(
    "kept",
    [b"\xc1", b"\x93", pack_records([record(1, DOOR, by=key(2))]), b"\x91\x01", b"\x91\xa4text", b"\x81\xa1a\x90"],
    ids=["no msgpack", "cut short", "forged", "numbers", "texts", "a map"],
)
def test_a_damaged_file_is_as_good_as_none(kept: bytes):
    """§12.1: and nothing in it is believed that its node has not signed."""

    async def main() -> None:
        disk = SimulatedDisk()
        await disk.write(ADDRESSES, kept)
        learned = Learned()
        await learned.book(disk).load()
        assert learned.addresses == {}

    trio.run(main)


# --- what a node says of itself --------------------------------------------------------------------------------
class _Here:
    """A network at addresses that change."""

    def __init__(self) -> None:
        self.doors, self.entrances = [DOOR], ["/ip4/192.0.2.7/tcp/4002"]

    def addresses(self) -> list[str]:
        return self.doors

    def entrance_addresses(self) -> list[str]:
        return self.entrances


class _Us:
    """As much of an identity as an announcer needs."""

    node_id, name = node(1), "us"

    class keys:
        node = key(1)


def announcer(
    network: _Here, now: list[float], outside: Sequence[str] = (), book: AddressBook | None = None
) -> Announcer:
    capacity = Capacity(cpu_cores=1, memory_bytes=1, memory_free_bytes=1, disk_free_bytes=1)
    return Announcer(
        _Us(),  # type: ignore[arg-type]
        network,  # type: ignore[arg-type]
        book or Learned().book(SimulatedDisk()),
        version="1",
        now=lambda: now[0],
        describe=lambda: (capacity, (), 0),
        outside=outside,
    )


def test_a_record_is_signed_anew_only_when_the_addresses_change():
    """§12.2: also where the clock goes back; one that was started again is ahead of all before."""
    network, now = _Here(), [1000.0]
    us = announcer(network, now)
    first = us.record()
    now[0] = 2000.0
    assert us.record() == first
    network.doors = [OTHER_DOOR]
    now[0] = 500.0
    second = open_address_record(us.record())
    assert second.addresses == (OTHER_DOOR,)
    assert second.sequence > open_address_record(first).sequence == 1_000_000
    now[0] = 3000.0
    assert open_address_record(announcer(network, now).record()).sequence > second.sequence


def test_a_clock_that_was_ahead_and_is_put_right_makes_nobody_deaf():
    """§12.2: the node remembers its own record, and goes on from there."""

    async def main() -> None:
        disk, network = SimulatedDisk(), _Here()
        first = announcer(network, [4e9], book=AddressBook(Learned(), disk, node(1)))  # type: ignore[arg-type]
        ahead = open_address_record(first.record()).sequence
        await first._addresses.save()
        learned = Learned()
        book = AddressBook(learned, disk, node(1), learned.changed.append)  # type: ignore[arg-type]
        await book.load()
        second = open_address_record(announcer(network, [1e9], book=book).record()).sequence
        assert ahead == 4_000_000_000_000 < second < ahead + 10
        assert (learned.addresses, learned.changed) == ({}, [])  # nobody dials himself

    trio.run(main)


def test_a_thief_that_has_used_the_last_sequence_does_not_stop_the_node():
    """§12.2: with a copy of its key somebody can; its owner revokes that key, on a node that still runs."""

    async def main() -> None:
        book = AddressBook(Learned(), SimulatedDisk(), node(1))  # type: ignore[arg-type]
        book.learn(record(1, OTHER_DOOR, sequence=SEQUENCE_MAX))
        us = announcer(_Here(), [1.0], book=book)
        assert open_address_record(us.record()).sequence == SEQUENCE_MAX
        assert group_of(us.make(GroupId("0" * 64))) == "0" * 64

    trio.run(main)


def test_what_the_owner_gave_by_hand_stands_first():
    """§4.30, §4.33: with the next port for the entrance; few, and also when there is no room for all."""
    network, now = _Here(), [1.0]
    us = announcer(network, now, outside=["/dns/node.example.org/tcp/7001"])
    assert us.where().addresses == ("/dns/node.example.org/tcp/7001", DOOR)
    assert us.where().entrance_addresses == ("/dns/node.example.org/tcp/7002", "/ip4/192.0.2.7/tcp/4002")
    more = ["/ip4/198.51.100.1/tcp/1", DOOR]  # for one token alone
    assert us.where(more).addresses == ("/ip4/198.51.100.1/tcp/1", DOOR, "/dns/node.example.org/tcp/7001")
    assert us.where().addresses == ("/dns/node.example.org/tcp/7001", DOOR)
    network.doors = [f"/ip4/192.0.2.9/tcp/{port}" for port in range(1, 100)]
    assert us.where(more).addresses[:2] == ("/ip4/198.51.100.1/tcp/1", DOOR)
    assert len(us.where(more).addresses) == ADDRESSES_MAX


def test_a_token_has_no_more_places_than_are_of_use():
    """§4.30: what was given by hand first, then by reach; few for a QR code; this machine only for want of others."""
    machine, near, far, byhand = "/ip4/127.0.0.1/tcp/2", "/ip4/10.1.2.3/tcp/2", "/ip4/8.8.8.8/tcp/2", "/dns/nas/tcp/2"
    assert worth_knocking([machine, near, far, byhand]) == (far, near, byhand)
    assert worth_knocking([machine, near, far, byhand], [byhand]) == (byhand, far, near)
    assert worth_knocking([machine, near, far, byhand], [byhand], True) == (byhand, far)
    assert worth_knocking([machine, near], [machine]) == (machine, near)
    assert worth_knocking([machine]) == (machine,)
    assert worth_knocking([machine, byhand], [byhand]) == (byhand, machine)  # what was given may be mistyped


def test_the_address_of_one_token_is_in_no_other(tmp_path: Path) -> None:
    """§4.33: the next invitation has what the last had, members are not told, and a QR code has a short one."""

    async def main(ground: HostileGround) -> None:
        lives = await ground.group(4)
        service = lives[0].node.service
        before = await service.invite(None, "member", 1, 3600)
        by_hand = await service.invite(None, "member", 1, 3600, ["mistyped.example.org:7001"])
        after = await service.invite(None, "member", 1, 3600)
        assert by_hand["entrances"][0]["addresses"][0]["address"] == "/dns/mistyped.example.org/tcp/7002"
        assert (after["entrances"], after["warning"]) == (before["entrances"], before["warning"])
        assert (await service.status())["announced"] == []
        short = await service.invite(None, "member", 1, 3600, qr=True)
        assert len(short["entrances"]) == BRIEF_ENTRANCES_MAX < len(after["entrances"])
        assert short["entrances"][0]["node_id"] == lives[0].node.identity.node_id
        assert len(segno.make_qr(short["token"].upper(), error="l").matrix) < 90

    on_hostile_ground(tmp_path, main)


# --- asking ----------------------------------------------------------------------------------------------------
def spoken(life: Life) -> list[Any]:
    """What goes out from the node about addresses, from now on."""
    said: list[Any] = []
    send = life.node.links.send

    def listening(peer: NodeId, channel: str, payload: bytes, kind: str = "") -> None:
        if channel == ADDRESS_CHANNEL:
            said.append(open_address_message(payload))
        send(peer, channel, payload, kind)

    life.node.links.send = listening  # type: ignore[method-assign]
    return said


def book_of(life: Life) -> AddressBook:
    return life.node.groups.neighbours.addresses


async def silence(place: object) -> None:
    """In place of announcements, which tell the same by gossip, but later."""
    await trio.lowlevel.checkpoint()


def forget(life: Life, other: Life) -> None:
    """As if the node had never heard where the other is."""
    book_of(life)._known.pop(other.node.identity.node_id)
    life.node.network.learn(other.node.identity.node_id, [])


def test_who_lacks_somebody_asks_those_who_are_there(tmp_path: Path) -> None:
    """§12.4: b and c have lost each other; a, whom both reach, tells where they are."""

    async def main(ground: HostileGround) -> None:
        a, b, c = await ground.group(3)
        ids = [life.node.identity.node_id for life in (a, b, c)]
        await ground.settled(lambda: all(len(life.node.groups.connected) == 2 for life in (a, b, c)), "all meet", 300)
        for life in (b, c):
            life.node.groups._announce = silence  # type: ignore[method-assign]
        forget(b, c)
        forget(c, b)
        told = spoken(a)
        ground.world.cut(ids[1], ids[2])
        await ground.settled(lambda: ids[2] not in b.node.groups.connected, "b has lost c", 300)
        await ground.settled(lambda: book_of(b).of(ids[2]) is not None, "b hears where c is", 3 * ANTI_ENTROPY_S)
        ground.world.heal()
        await ground.settled(lambda: ids[2] in b.node.groups.connected, "b meets c", 3 * REDIAL_LAST_S)
        answers = [message for message in told if message.type == "told"]
        assert answers
        assert {open_address_record(raw).node_id for message in answers for raw in message.records} <= {ids[1], ids[2]}
        asked = [{held.node_id for held in message.nodes} for message in told if message.type == "asked"]
        assert all(nodes == {ids[0]} for nodes in asked)  # after itself alone (§12.10), for it has lost nobody
        await trio.sleep(10 * ANTI_ENTROPY_S)  # virtual time passes
        assert len([message for message in told if message.type == "told"]) == len(answers)
        alive(a, b, c)

    on_hostile_ground(tmp_path, main)


def test_nobody_outside_the_group_is_told_or_believed(tmp_path: Path) -> None:
    """§12.4, §12.3: neither asks nor answers of a stranger count, and no member's word about a stranger."""

    async def main(ground: HostileGround) -> None:
        a, b = await ground.group(2)
        stranger = await ground.born()
        whereabouts, group = a.node.groups.whereabouts, a.place.group
        said = spoken(a)
        outside, inside = stranger.node.identity.node_id, b.node.identity.node_id
        asked = pack(AddressesAsked(group=group, nodes=(Held(node_id=inside, sequence=-1),)))
        whereabouts.on_message(outside, asked)
        assert said == []
        whereabouts.on_message(inside, asked)
        assert [message.type for message in said] == ["told"]
        whereabouts.on_message(inside, pack(AddressesTold(group=group, records=(record(7, DOOR),))))
        assert book_of(a).of(node(7)) is None
        moved = AddressRecord(node_id=inside, addresses=(OTHER_DOOR,), entrance_addresses=(), sequence=2**60)
        news = pack(AddressesTold(group=group, records=(make_address_record(b.key, moved),)))
        whereabouts.on_message(outside, news)
        assert book_of(a).of(inside) != moved.where()
        whereabouts.on_message(inside, news)
        assert book_of(a).of(inside) == moved.where()

    on_hostile_ground(tmp_path, main)


def test_a_token_that_leads_to_the_node_itself_is_said(tmp_path: Path) -> None:
    """As after its restoration from a backup, with a token that it made before."""

    async def main(ground: HostileGround) -> None:
        (a,) = await ground.group(1)
        _, token = await a.node.groups.invite(a.place, "member", 1, 3600)
        with pytest.raises(Unreachable, match="leads to this very node"):
            await a.node.groups.entrance.join(read_token(token))

    on_hostile_ground(tmp_path, main)


# --- hints from the local network ------------------------------------------------------------------------------
def test_strangers_on_the_local_network_leave_nothing_behind(tmp_path: Path) -> None:
    """§12.7: a thousand nodes that are no members', and a member that we are connected to."""

    async def main(ground: HostileGround) -> None:
        a, b = await ground.group(2)
        await ground.settled(lambda: bool(a.node.groups.connected), "both meet", 300)
        book, whereabouts = book_of(a), a.node.groups.whereabouts
        before = sys.getsizeof(book._hints)
        for number in range(1000):
            whereabouts.sighted(node(number), *NEARBY)
        whereabouts.sighted(b.node.identity.node_id, *NEARBY)
        assert book._hints == {}
        assert sys.getsizeof(book._hints) == before
        assert not book.is_findable(node(1))

    on_hostile_ground(tmp_path, main)


def test_a_member_that_is_away_is_sought_where_it_was_seen(tmp_path: Path) -> None:
    """§12.7: its stale addresses stay, and the hint is tried besides; a node that all are connected to seeks nobody."""

    async def main(ground: HostileGround) -> None:
        a, b = await ground.group(2)
        ids = [life.node.identity.node_id for life in (a, b)]
        whereabouts = a.node.groups.whereabouts
        await ground.settled(lambda: bool(a.node.groups.connected), "both meet", 300)
        assert not whereabouts.is_searching()
        ground.world.cut(*ids)
        await ground.settled(lambda: not a.node.groups.connected, "they lose each other", 300)
        assert whereabouts.is_searching()
        here = b.node.network.addresses()[0], b.node.network.entrance_addresses()[0]
        stale = AddressRecord(node_id=ids[1], addresses=(OTHER_DOOR,), entrance_addresses=(), sequence=2**60)
        book_of(a).learn(make_address_record(b.key, stale))
        ground.world.heal()
        whereabouts.sighted(ids[1], *here)
        await ground.settled(lambda: ids[1] in a.node.groups.connected, "a finds b", REDIAL_LAST_S)

    on_hostile_ground(tmp_path, main)


# --- pauses ----------------------------------------------------------------------------------------------------
class _Deaf:
    """A network in which nobody answers. Notes when who was dialled."""

    def __init__(self, node_id: NodeId) -> None:
        self.node_id = node_id
        self.dialled: list[float] = []

    def handle(self, protocol: str, handler: object) -> None: ...

    async def peer_changes(self):
        await trio.Event().wait()
        yield  # never

    async def open(self, peer: NodeId, protocol: str) -> Any:
        await trio.lowlevel.checkpoint()
        self.dialled.append(trio.current_time())
        raise Unreachable("nobody answers", remedy="wait")


async def _kept(ground: Ground, name: str) -> tuple[_Deaf, Links]:
    network = _Deaf(NodeId(name))
    links = Links(network, lambda *_: trio.lowlevel.checkpoint())  # type: ignore[arg-type]
    await ground.nursery.start(links.run)
    links.keep([NodeId("peer")])
    return network, links


def pauses(times: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def test_pauses_grow_and_differ_from_node_to_node() -> None:
    """§12.9: so that those who lost one and the same peer do not all dial it at one moment."""

    async def test(ground: Ground) -> None:
        one, _ = await _kept(ground, "one")
        other, _ = await _kept(ground, "other")
        await trio.sleep(300)  # virtual time passes
        for network in (one, other):
            expected = REDIAL_FIRST_S
            for pause in pauses(network.dialled):
                assert 0.75 * expected - 0.001 <= pause <= 1.25 * expected + 0.001
                expected = min(2 * expected, REDIAL_LAST_S)
            assert len(network.dialled) > 10
        assert all(a != b for a, b in zip(one.dialled[1:], other.dialled[1:], strict=False))

    run_on_simulated(test)


def test_a_new_address_is_tried_at_once_and_the_pauses_begin_anew() -> None:
    """§12.9: and whoever tells of new ones all the time has it dialled no more often than every few seconds."""

    async def test(ground: Ground) -> None:
        network, links = await _kept(ground, "one")
        await trio.sleep(300)  # virtual time passes
        before = len(network.dialled)
        links.hurry(NodeId("peer"))
        await trio.sleep(2)  # virtual time passes
        assert len(network.dialled) >= before + 2
        await trio.sleep(300)  # virtual time passes
        before = len(network.dialled)
        for _ in range(100):
            links.hurry(NodeId("peer"))
            await trio.sleep(HURRY_S / 50)  # virtual time passes
        assert len(network.dialled) - before < 15
        for _ in range(100):
            links.hurry(NodeId("peer"))
            await trio.sleep(HURRY_LAST_S / 100)  # virtual time passes
        before = len(network.dialled)
        for _ in range(300):
            links.hurry(NodeId("peer"))
            await trio.sleep(HURRY_LAST_S / 100)  # virtual time passes
        undisturbed = 3 * HURRY_LAST_S / REDIAL_LAST_S
        assert len(network.dialled) - before < 2 * undisturbed
        links.hurry(NodeId("nobody that we ever dialled"))

    run_on_simulated(test)
