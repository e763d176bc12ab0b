"""The switch that breaks links for tests does what it says on streams over TLS, too."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from test_libp2p_faults import ANY_PORT, DEADLINE_S, Pair, _says_nothing
from tls_ground import Kept, over_tls

from node.network.libp2p_faults import FAULTS_VARIABLE
from node.network.libp2p_network import Libp2pNetwork
from node.seams import BLOB_PROTOCOL, StreamClosed

pytestmark = pytest.mark.real

Scenario = Callable[[Pair], Awaitable[None]]


@pytest.fixture
def on_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], None]:
    """Runs a scenario on two networks, of which the first one's links can be broken."""

    async def main(scenario: Scenario) -> None:
        async with trio.open_nursery() as nursery:
            monkeypatch.setenv(FAULTS_VARIABLE, str(tmp_path / "faults"))
            one = await nursery.start(Libp2pNetwork(Ed25519PrivateKey.generate(), [ANY_PORT]).run)
            monkeypatch.delenv(FAULTS_VARIABLE)
            other = await nursery.start(Libp2pNetwork(Ed25519PrivateKey.generate(), [ANY_PORT]).run)
            with trio.fail_after(DEADLINE_S):
                await scenario(Pair(one, other, tmp_path / "faults"))
            nursery.cancel_scope.cancel()

    return lambda scenario: trio.run(main, scenario)


def test_cut(on_pair: Callable[[Scenario], None]) -> None:
    async def scenario(pair: Pair) -> None:
        kept = Kept()
        pair.other.handle(BLOB_PROTOCOL, kept)
        stream, reader = await over_tls(pair.one, pair.other), await kept.next()
        await pair.breaks("cut")
        for end in (stream, reader):
            with pytest.raises(StreamClosed):
                await end.receive_frame(10)
        await pair.breaks()
        await over_tls(pair.one, pair.other)

    on_pair(scenario)


@pytest.mark.parametrize("mode", ["black-hole", "mute", "deaf"])
def test_what_vanishes_comes_once_the_fault_is_over(on_pair: Callable[[Scenario], None], mode: str) -> None:
    async def scenario(pair: Pair) -> None:
        kept = Kept()
        pair.other.handle(BLOB_PROTOCOL, kept)
        stream, reader = await over_tls(pair.one, pair.other), await kept.next()
        await pair.breaks(mode)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_frame, b"to the other")
            await reader.send_frame(b"from the other")
            heard = [not await _says_nothing(end) for end in (stream, reader)]
            assert heard == [mode == "mute", mode == "deaf"]
            await pair.breaks()
        for end, frame in ((stream, b"from the other"), (reader, b"to the other")):
            if not heard.pop(0):
                assert await end.receive_frame(20) == frame

    on_pair(scenario)


def test_half_open(on_pair: Callable[[Scenario], None]) -> None:
    """We forget the stream, and the other end hears nothing of that before it is over."""

    async def scenario(pair: Pair) -> None:
        kept = Kept()
        pair.other.handle(BLOB_PROTOCOL, kept)
        stream, reader = await over_tls(pair.one, pair.other), await kept.next()
        await pair.breaks("half-open")
        with pytest.raises(StreamClosed):
            await stream.receive_frame(10)
        assert await _says_nothing(reader)
        await pair.breaks()
        with pytest.raises(StreamClosed):
            await reader.receive_frame(10)

    on_pair(scenario)
