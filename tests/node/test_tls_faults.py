"""The switch that breaks links for tests does what it says on streams over TLS, too."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
from faults_ground import Pair, Scenario, run_on_pair, says_nothing
from tls_ground import Kept, over_tls

from node.network.libp2p import secure as libp2p_secure
from node.seams import BLOB_PROTOCOL, CONTROL_PROTOCOL, StreamClosed

pytestmark = pytest.mark.real


@pytest.fixture
def on_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], None]:
    return partial(run_on_pair, tmp_path, monkeypatch)


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
            heard = [not await says_nothing(end) for end in (stream, reader)]
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
        assert await says_nothing(reader)
        await pair.breaks()
        with pytest.raises(StreamClosed):
            await reader.receive_frame(10)

    on_pair(scenario)


def test_half_open_is_noticed_with_the_connection_beside(
    on_pair: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the end that was told nothing, and though the peer has come again meanwhile."""
    monkeypatch.setattr(libp2p_secure, "SIGN_OF_LIFE_S", 0.3)

    async def scenario(pair: Pair) -> None:
        kept = Kept()
        pair.one.handle(BLOB_PROTOCOL, kept)
        stream, _ = await over_tls(pair.other, pair.one), await kept.next()
        await pair.breaks("half-open")
        again = await pair.one.open(pair.other.node_id, CONTROL_PROTOCOL)
        with pytest.raises(StreamClosed):
            await stream.receive_frame(10)
        await again.send_frame(b"again")
        assert await again.receive_frame(10) == b"again"

    on_pair(scenario)
