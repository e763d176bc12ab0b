"""The switch that breaks links for tests does what it says: on streams, gossip, new connections, over real sockets."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from faults_ground import QUIET_S, Pair, Scenario, run_on_pair, says_nothing
from tls_ground import ANY_PORT

from node.network.libp2p import network as libp2p_network
from node.network.libp2p import secure as libp2p_secure
from node.network.libp2p.faults import FAULTS_VARIABLE, FaultyConnection
from node.network.libp2p.host import muxer_of
from node.network.libp2p.network import Libp2pNetwork
from node.seams import CONTROL_PROTOCOL, StreamClosed, Unreachable
from protocol.errors import FednodeError
from protocol.keys import NodeId
from protocol.limits import FRAME_BYTES_MAX

pytestmark = pytest.mark.real


@pytest.fixture
def on_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], None]:
    return partial(run_on_pair, tmp_path, monkeypatch)


def test_cut_closes_what_is_open_refuses_what_is_new_and_ends(on_pair: Callable[[Scenario], None]) -> None:
    async def scenario(pair: Pair) -> None:
        stream = await pair.one.open(pair.other.node_id, CONTROL_PROTOCOL)
        await pair.breaks("cut")
        with pytest.raises(StreamClosed):
            await stream.receive_frame(10)
        for here, there in ((pair.one, pair.other), (pair.other, pair.one)):
            with pytest.raises(Unreachable):
                await here.open(there.node_id, CONTROL_PROTOCOL)
        assert not pair.one._inner.connections(libp2p_network._id(pair.other.node_id))
        await pair.breaks()
        stream = await pair.other.open(pair.one.node_id, CONTROL_PROTOCOL)
        await stream.send_frame(b"again")
        assert await stream.receive_frame(10) == b"again"

    on_pair(scenario)


@pytest.mark.parametrize("mode", ["black-hole", "mute", "deaf"])
def test_what_vanishes_comes_once_the_fault_is_over(on_pair: Callable[[Scenario], None], mode: str) -> None:
    async def scenario(pair: Pair) -> None:
        stream = await pair.one.open(pair.other.node_id, CONTROL_PROTOCOL)
        await stream.send_frame(b"before")
        assert await stream.receive_frame(10) == b"before"
        await pair.breaks(mode)
        await stream.send_frame(b"meanwhile")  # nobody learns of it
        assert await says_nothing(stream)
        await pair.breaks()
        assert await stream.receive_frame(10) == b"meanwhile"
        await stream.send_frame(bytes(FRAME_BYTES_MAX))
        assert await stream.receive_frame(FRAME_BYTES_MAX) == bytes(FRAME_BYTES_MAX)

    on_pair(scenario)


def test_gossip_vanishes_too(on_pair: Callable[[Scenario], None]) -> None:
    async def scenario(pair: Pair) -> None:
        feed = pair.one.subscribe("topic")
        heard: list[bytes] = []

        async def listen() -> None:
            async for gossip in feed:
                heard.append(gossip.data)

        async def published_until(data: bytes, condition: Callable[[], bool]) -> None:
            while not condition():
                await pair.other.publish("topic", data)
                with trio.move_on_after(0.1):
                    await trio.Event().wait()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await pair.one.open(pair.other.node_id, CONTROL_PROTOCOL)
            await published_until(b"before", lambda: bool(heard))
            await pair.breaks("deaf")
            count = len(heard)
            with trio.move_on_after(QUIET_S):
                await published_until(b"meanwhile", lambda: False)
            assert heard[count:].count(b"meanwhile") == 0
            await pair.breaks()
            await published_until(b"after", lambda: b"meanwhile" in heard and b"after" in heard)
            nursery.cancel_scope.cancel()

    on_pair(scenario)


def test_gossip_goes_on_when_an_old_connection_ends_after_a_new_one_began(on_pair: Callable[[Scenario], None]) -> None:
    """The library then forgets what the peer subscribes to, and on a connection that lasts it never hears it again."""

    async def scenario(pair: Pair) -> None:
        feed = pair.one.subscribe("topic")

        async def heard_again(data: bytes) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(publish, data)
                async for gossip in feed:
                    if gossip.data == data:
                        break
                nursery.cancel_scope.cancel()

        async def publish(data: bytes) -> None:
            while True:
                await pair.other.publish("topic", data)
                with trio.move_on_after(0.1):
                    await trio.Event().wait()

        await pair.one.open(pair.other.node_id, CONTROL_PROTOCOL)
        await heard_again(b"before")
        # What the library does when it is told of the old connection's end.
        pair.other._gossip._pubsub._handle_dead_peer(libp2p_network._id(pair.one.node_id))
        await heard_again(b"after")

    on_pair(scenario)


def test_half_open_is_noticed_by_the_end_that_was_told_nothing(
    on_pair: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libp2p_secure, "SIGN_OF_LIFE_S", 0.3)

    async def scenario(pair: Pair) -> None:
        stream = await pair.other.open(pair.one.node_id, CONTROL_PROTOCOL)
        lasting = await pair.other.open(pair.one.node_id, CONTROL_PROTOCOL)
        with trio.move_on_after(5 * 0.3 + QUIET_S):  # a peer that answers is not cut off, however little is said
            await trio.Event().wait()
        await stream.send_frame(b"well")
        assert await stream.receive_frame(10) == b"well"
        await pair.breaks("half-open")
        await stream.send_frame(b"nobody hears this")
        with pytest.raises(StreamClosed):
            await lasting.receive_frame(10)
        again = await pair.other.open(pair.one.node_id, CONTROL_PROTOCOL)  # the fault was the old connections'
        await again.send_frame(b"again")
        assert await again.receive_frame(10) == b"again"

    on_pair(scenario)


def test_without_the_variable_connections_are_plain(on_pair: Callable[[Scenario], None]) -> None:
    async def scenario(pair: Pair) -> None:
        await pair.other.open(pair.one.node_id, CONTROL_PROTOCOL)

        def kind(here: Libp2pNetwork, there: NodeId) -> type:
            (connection,) = here._inner.connections(libp2p_network._id(there))
            return type(muxer_of(connection).connection)

        assert pair.other._faults is None
        assert kind(pair.other, pair.one.node_id) is libp2p_secure.CountedConnection
        assert kind(pair.one, pair.other.node_id) is FaultyConnection

    on_pair(scenario)


def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = tmp_path / "faults"
    faults.write_text('[{"peer": "x", "mode": "explode"}]')
    monkeypatch.setenv(FAULTS_VARIABLE, str(faults))
    with pytest.raises(FednodeError, match="no list of faults"):
        trio.run(_make)


async def _make() -> Libp2pNetwork:
    await trio.lowlevel.checkpoint()
    return Libp2pNetwork(Ed25519PrivateKey.generate(), [ANY_PORT])
