"""Who comes over TLS without a token, or answers in another's place (docs/protocol.md §13)."""

import ssl

import pytest
import trio
from tls_ground import HERE, Kept, door_of, echo, is_taken, knock, over_tls, run, says, server_of, until

from node.network.libp2p.network import Libp2pNetwork
from node.network.libp2p.stream import FrameStream
from node.network.tls import caller as tls_caller
from node.network.tls import server as tls_server
from node.network.tls.caller import TlsCaller
from node.network.tls.certificate import calling_context, serving_context
from node.network.tls.socket import Ended, TlsSocket
from node.network.tls.stream import TlsStream
from node.seams import BLOB_PROTOCOL, StreamClosed
from protocol.bulk_ways import proof_of
from protocol.keys import node_id_of
from protocol.limits import BULK_UNEXPECTED_MAX, FRAME_BYTES_MAX, SOURCE_BULK_UNEXPECTED_MAX

pytestmark = pytest.mark.real

BETWEEN = node_id_of(bytes(32))
ELSEWHERE = "127.0.0.2"  # another place to dial from, on one machine


async def _is_hung_up_on(tls: TlsSocket) -> None:
    with pytest.raises(Ended):
        await tls.receive_into(memoryview(bytearray(1)), lambda size: None)
    tls.cut()


class Impostor:
    """Speaks TLS at a port, with a certificate of its own, and keeps what it hears."""

    def __init__(self) -> None:
        self.callers = 0
        self.heard = bytearray()
        self._context, self.fingerprint = serving_context()

    async def __call__(self, stream: trio.SocketStream) -> None:
        self.callers += 1
        tls = TlsSocket(stream, self._context, is_server=True)
        byte = bytearray(1)
        try:
            await tls.shake_hands()
            while True:
                await tls.receive_into(memoryview(byte), lambda size: None)
                self.heard += byte
        except Ended:
            tls.cut()


def test_who_shows_another_certificate_hears_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """§13.3, §13.9: the token is not said to it, and the blobs come by the authenticated way."""
    impostor = Impostor()

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        async with trio.open_nursery() as nursery:
            listening = await nursery.start(trio.serve_tcp, impostor, 0)
            address = f"/ip4/{HERE}/tcp/{listening[0].socket.getsockname()[1]}"
            monkeypatch.setattr(tls_caller, "few_names", lambda addresses: [address])
            stream = await one.open(other.node_id, BLOB_PROTOCOL)
            assert isinstance(stream, FrameStream)
            assert await says(stream, b"hello") == b"hello"
            nursery.cancel_scope.cancel()
        assert impostor.callers
        assert not impostor.heard
        assert any("somebody else than" in line for line in caplog.messages)

    run(scenario)


def test_a_token_is_taken_once_and_a_guess_never() -> None:
    """§13.4, §13.5"""

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        await over_tls(one, other)
        server = server_of(other)
        offer = server.offer(one.node_id, HERE)
        assert offer is not None
        refused = other.counters.refused_at_door
        assert await is_taken(await knock(door_of(other)), proof_of(offer.token, one.node_id, other.node_id))
        assert not await is_taken(await knock(door_of(other)), proof_of(offer.token, one.node_id, other.node_id))
        assert not await is_taken(await knock(door_of(other)), bytes(32))
        assert other.counters.refused_at_door == refused + 2

    run(scenario)


def test_a_token_of_one_node_is_no_token_of_another() -> None:
    """§13.4"""

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        one.handle(BLOB_PROTOCOL, echo)
        offer = server_of(one).offer(other.node_id, HERE)
        assert offer is not None
        proof = proof_of(offer.token, other.node_id, one.node_id)
        assert not await is_taken(await knock(door_of(other)), proof)
        assert await is_taken(await knock(door_of(one)), proof)

    run(scenario)


def test_an_offer_that_somebody_passes_on_as_its_own_leads_nowhere() -> None:
    """§13.5: else we would speak to one node and take it for another, and it would take us for a third."""

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        offer = server_of(other).offer(BETWEEN, HERE)
        assert offer is not None
        caller = TlsCaller(one.node_id)
        assert await caller.connect(BETWEEN, offer, other.addresses()) is None
        offer = server_of(other).offer(one.node_id, HERE)
        assert offer is not None
        tls = await caller.connect(other.node_id, offer, other.addresses())
        assert tls is not None
        tls.cut()

    run(scenario)


def test_a_token_of_who_was_put_out_meanwhile_is_not_taken() -> None:
    """§13.7"""

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        await over_tls(one, other)
        server = server_of(other)
        offer = server.offer(one.node_id, HERE)
        assert offer is not None
        tls = await knock(door_of(other))
        other._door.set(lambda peer: False)  # and nobody has been hung up on yet
        assert not await is_taken(tls, proof_of(offer.token, one.node_id, other.node_id))
        assert server.offer(one.node_id, HERE) is None

    run(scenario)


def test_strangers_without_a_token_take_no_members_place() -> None:
    """§13.6: they have few places, and members come in beside them."""

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        server = server_of(other)
        here: list[TlsSocket] = []
        for last in range(2, 2 + BULK_UNEXPECTED_MAX):  # from more places than there is room for
            for _ in range(SOURCE_BULK_UNEXPECTED_MAX + 1):
                try:
                    here.append(await knock(door_of(other), source=f"127.0.0.{last}"))
                except Ended:
                    continue
        assert len(here) == BULK_UNEXPECTED_MAX
        assert server._unexpected._taken.total() == BULK_UNEXPECTED_MAX
        assert max(server._unexpected._taken.values()) == SOURCE_BULK_UNEXPECTED_MAX
        assert await says(await over_tls(one, other), b"a member") == b"a member"
        for tls in here:
            tls.cut()
        await until(lambda: not server._unexpected._taken.total())
        assert isinstance(await knock(door_of(other), source=ELSEWHERE), TlsSocket)

    run(scenario)


@pytest.mark.parametrize("says_what", ["half a hello", "no token"])
def test_who_comes_slowly_is_hung_up_on(says_what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """§13.5"""
    monkeypatch.setattr(tls_server, "BULK_WAY_DEADLINE_S", 0.3)

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        server = server_of(other)
        if says_what == "no token":
            tls = await knock(door_of(other))
            await tls.send(bytes(31))
            await _is_hung_up_on(tls)
        else:
            async with await trio.open_tcp_stream(HERE, door_of(other)) as stream:
                for byte in b"\x16\x03\x01":
                    await stream.send_all(bytes([byte]))
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some(100)
        await until(lambda: not server._unexpected._taken.total())
        assert isinstance(await one.open(other.node_id, BLOB_PROTOCOL), TlsStream)

    run(scenario)


def test_what_is_no_tls_1_3_is_hung_up_on() -> None:
    """§13.1"""

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        old = calling_context()
        old.minimum_version = ssl.TLSVersion.TLSv1_2
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(Ended):
            await knock(door_of(other), old)
        async with await trio.open_tcp_stream(HERE, door_of(other)) as stream:
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(bytes(100_000_000))  # far more than a handshake has, and none of it is kept
        assert (await over_tls(one, other)).peer == other.node_id

    run(scenario)


def test_who_fails_again_and_again_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """§13.6"""
    monkeypatch.setattr(tls_server, "SOURCE_FAILURES_PAUSE_S", 0.5)

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        server = server_of(other)
        for _ in range(60):
            server._failures.note(ELSEWHERE, trio.current_time())
        began = trio.current_time()
        (await knock(door_of(other), source=ELSEWHERE)).cut()
        assert trio.current_time() - began >= 0.5
        began = trio.current_time()
        (await knock(door_of(other))).cut()
        assert trio.current_time() - began < 0.5

    run(scenario)


def test_a_frame_that_is_too_long_is_a_fault_and_ends_the_stream() -> None:
    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        stream = await over_tls(one, other)
        await stream._tls.send((FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
        await _is_hung_up_on(stream._tls)
        assert other.conduct._standings[one.node_id].score > 0

    run(scenario)


def test_the_key_of_the_certificate_is_on_no_disk(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """§13.1: new with every start, and gone from the folder that Python's ssl wants it in."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (_, one), (_, other) = serving_context(), serving_context()
    assert one != other
    assert list(tmp_path.iterdir()) == []  # type: ignore[attr-defined]


def test_frames_of_who_was_put_out_are_not_handed_over() -> None:
    """§13.7: not even in the moment before it is hung up on."""

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        kept = Kept()
        other.handle(BLOB_PROTOCOL, kept)
        stream, reader = await over_tls(one, other), await kept.next()
        await stream.send_frame(b"of a member")
        assert await reader.receive_frame(100) == b"of a member"
        await stream.send_frame(b"of a stranger")
        other._door.set(lambda peer: False)
        with pytest.raises(StreamClosed):
            await reader.receive_frame(100)
        assert other.counters.stranger_bytes == 0

    run(scenario)
