"""The local network: what is said there, what is believed of what is heard (docs/protocol.md §12)."""

import socket
from collections.abc import Callable
from random import Random
from types import SimpleNamespace

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from trio.testing import MockClock
from zeroconf import DNSIncoming

from node.network import mdns
from node.network.mdns import LocalNetwork, announcement, question, read
from protocol.keys import NodeId, node_id_of, public_key_of

WAIT_S = 20.0  # for two sockets on one machine; a tenth of a second is usual


def a_node(seed: int) -> NodeId:
    return node_id_of(public_key_of(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)))


ANN, BEN = a_node(1), a_node(2)
Seen = tuple[NodeId, str, str]


def network(
    node: NodeId, port: int, seen: Callable[[NodeId, str, str], None], *, host: str = "127.0.0.1"
) -> LocalNetwork:
    return LocalNetwork(
        node,
        addresses=lambda: [f"/ip4/{host}/tcp/{port}", "/ip6/::1/tcp/9"],
        entrance_addresses=lambda: [f"/ip4/{host}/tcp/{port + 1}", "/ip6/::1/tcp/10"],
        is_searching=lambda: False,
        on_sighting=seen,
    )


# --- what is said ----------------------------------------------------------------------------------------------
def test_an_announcement_is_understood():
    heard = read(announcement(ANN, 4001, 4002), "192.0.2.7")
    assert not heard.asks
    (seen,) = heard.sightings
    assert (seen.node, seen.host, seen.door_port, seen.entrance_port) == (ANN, "192.0.2.7", 4001, 4002)
    assert read(question(), "192.0.2.7").asks


def test_it_says_the_id_and_the_ports_and_nothing_else():
    """§12.6: every word of it, so that a name that slips in is seen."""
    for ttl in (120, 0):
        message = DNSIncoming(announcement(ANN, 4001, 4002, ttl_s=ttl))
        words = {
            str(getattr(record, field, "")) for record in message.answers() for field in ("name", "alias", "server")
        }
        assert words <= {"", mdns.SERVICE, f"{ANN}.{mdns.SERVICE}", f"{ANN}.local."}
        assert [record.text for record in message.answers() if hasattr(record, "text")] == [b"\x0dentrance=4002"]


# --- what is believed ------------------------------------------------------------------------------------------
def test_a_sighting_leads_to_where_it_came_from():
    """§12.7: whatever addresses the message has; so nobody has us dial a third machine."""
    seen: list[Seen] = []

    async def main() -> None:
        network(ANN, 4001, lambda *sighting: seen.append(sighting)).take(announcement(BEN, 4001, 4002), "127.0.0.9")

    trio.run(main)
    assert seen == [(BEN, "/ip4/127.0.0.9/tcp/4001", "/ip4/127.0.0.9/tcp/4002")]


def test_nobody_has_us_dial_a_machine_far_away(monkeypatch: pytest.MonkeyPatch):
    """§12.7: by an address on a datagram that is not its sender's."""
    card = [SimpleNamespace(family=socket.AF_INET, address="10.1.2.3", netmask="255.255.255.0")]
    other = [SimpleNamespace(family=socket.AF_INET6, address="fe80::1", netmask=None)]
    monkeypatch.setattr(mdns.psutil, "net_if_addrs", lambda: {"a": card, "b": other})
    seen: list[Seen] = []

    async def main() -> None:
        there = network(ANN, 4001, lambda *sighting: seen.append(sighting))
        for host in ("198.51.100.1", "10.1.3.3", "10.1.2.4"):
            there.take(announcement(BEN, 4001, 4002), host)

    trio.run(main)
    assert [door for _, door, _ in seen] == ["/ip4/10.1.2.4/tcp/4001"]


def test_a_flood_leaves_the_node_its_time():
    """§12.7: also one of what is about other things, which is not even read."""
    taken: list[float] = []

    class Flood:
        async def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
            await trio.lowlevel.checkpoint()
            taken.append(trio.current_time())
            assert len(taken) < 12_000
            return b"noise", ("127.0.0.9", mdns.PORT)

    async def main() -> None:
        with trio.move_on_after(10):  # virtual seconds, which only pauses use up
            await network(ANN, 4001, lambda *sighting: None)._listen(Flood())  # type: ignore[arg-type]

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert taken[-1] - taken[0] > 9


NONSENSE = {
    "nothing": b"",
    "noise": Random(1).randbytes(500),
    "another service": announcement(ANN, 1, 2).replace(b"_fednode", b"_printer"),
    "no node": announcement(ANN, 1, 2).replace(ANN.encode(), b"x" * len(ANN)),
    "no ports": announcement(ANN, 0, 0),
    "an entrance out of range": announcement(ANN, 4001, 99999),
    "a goodbye": announcement(ANN, 4001, 4002, ttl_s=0),
    "too long": announcement(ANN, 4001, 4002) + bytes(9000),
    "many questions": question()[:4] + b"\xff\xff" + question()[6:],
    "a name that points at itself": question()[:12] + b"\xc0\x0c" + question()[12:],
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_says_nothing(kind: str):
    """§12.7"""
    heard = read(NONSENSE[kind], "192.0.2.7")
    assert heard.sightings == ()


def test_no_cut_and_no_flipped_byte_breaks_the_reader():
    """§12.7: whatever comes, nothing is raised, and what is seen is a node at a port."""
    good = announcement(ANN, 4001, 4002)
    broken = [good[:length] for length in range(len(good))]
    broken += [good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :] for at in range(len(good)) for flip in (1, 0xFF)]
    for data in broken:
        for seen in read(data, "192.0.2.7").sightings:
            assert seen.host == "192.0.2.7"
            assert 0 < seen.door_port < 65_536


def test_a_flood_is_dropped_unread(monkeypatch: pytest.MonkeyPatch):
    """§12.7: of a hundred thousand messages a few are read; what is about other things costs none of these."""
    reads: list[bytes] = []

    def counted(data: bytes, host: str) -> mdns.Heard:
        reads.append(data)
        return mdns.Heard()

    monkeypatch.setattr(mdns, "read", counted)

    async def main() -> None:
        there = network(ANN, 4001, lambda *sighting: None)
        for _ in range(1000):
            there.take(NONSENSE["another service"], "192.0.2.9")
        assert reads == []
        for _ in range(100_000):
            there.take(announcement(BEN, 4001, 4002), "192.0.2.9")
        assert len(reads) == 200
        await trio.sleep(10)  # virtual time passes
        for _ in range(1000):
            there.take(announcement(BEN, 4001, 4002), "192.0.2.9")
        assert len(reads) == 400

    trio.run(main, clock=MockClock(autojump_threshold=0))


# --- over real sockets -----------------------------------------------------------------------------------------
def has_multicast() -> bool:
    """Some machines and containers have none, also not to themselves."""
    group = socket.inet_aton(mdns.GROUP) + socket.inet_aton("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        try:
            channel.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            channel.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            channel.sendto(b"", (mdns.GROUP, mdns.PORT))
        except OSError:
            return False
    return True


@pytest.mark.real
@pytest.mark.skipif(not has_multicast(), reason="this machine has no multicast")
def test_two_nodes_on_one_machine_see_each_other():
    """§12.6: the second says where it is when it starts, and asks; the first answers."""
    seen: dict[NodeId, set[Seen]] = {ANN: set(), BEN: set()}

    async def main() -> None:
        changed = trio.Event()

        def note(by: NodeId, *sighting: object) -> None:
            nonlocal changed
            seen[by].add(sighting)  # type: ignore[arg-type]
            changed.set()
            changed = trio.Event()

        networks = [
            network(node, port, lambda *sighting, node=node: note(node, *sighting))
            for node, port in ((ANN, 4001), (BEN, 5001))
        ]
        with trio.fail_after(WAIT_S):
            async with trio.open_nursery() as nursery:
                for each in networks:
                    nursery.start_soon(each.run)
                while not (seen[ANN] and seen[BEN]):
                    await changed.wait()
                assert [each.trouble for each in networks] == ["", ""]
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert seen[ANN] == {(BEN, "/ip4/127.0.0.1/tcp/5001", "/ip4/127.0.0.1/tcp/5002")}
    assert seen[BEN] == {(ANN, "/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/tcp/4002")}


def test_where_there_is_no_multicast_there_is_a_word_about_it(monkeypatch: pytest.MonkeyPatch):
    """And nothing else happens: it is tried again later."""

    async def nothing() -> trio.socket.SocketType:
        raise OSError(19, "No such device")

    monkeypatch.setattr(mdns, "_multicast_socket", nothing)

    async def main() -> None:
        there = network(ANN, 4001, lambda *sighting: None)
        with trio.move_on_after(1000):
            await there.run()
        assert there.trouble == "port 5353 cannot be listened on (No such device)"

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_an_interface_that_cannot_be_spoken_from_is_named():
    """An address that this machine does not have, as when a network has gone."""

    async def main() -> None:
        there = network(ANN, 4001, lambda *sighting: None, host="192.0.2.77")
        with trio.fail_after(WAIT_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(there.run)
                while not there.trouble:
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        assert "192.0.2.77" in there.trouble

    trio.run(main)
