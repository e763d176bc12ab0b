"""Streams for blobs over TLS: which way they take, what they carry, and when they end (docs/protocol.md §13)."""

import logging
import math
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

import psutil
import pytest
import trio
from tls_ground import HERE, Kept, door_of, echo, over_tls, run, says, server_of, until

from node.network.libp2p.network import Libp2pNetwork
from node.network.libp2p.stream import FrameStream
from node.network.tls import caller as tls_caller
from node.network.tls import ways as tls_ways
from node.network.tls.stream import TlsStream
from node.seams import BLOB_PROTOCOL, CONTROL_PROTOCOL, Stream, StreamClosed, Unreachable
from protocol.bulk_ways import BULK_WAY_PROTOCOL, TLS_BEGINS
from protocol.limits import BULK_RETRY_S, BULK_WAY_DEADLINE_S, FRAME_BYTES_MAX, PEER_BULK_STREAMS_MAX

pytestmark = pytest.mark.real

NOBODY = "/ip4/127.0.0.1/tcp/9"  # the discard port


async def _for_ever(step: Callable[[], Awaitable[object]]) -> None:
    while True:
        await step()


async def _ends(stream: Stream) -> None:
    with pytest.raises(StreamClosed):
        await _for_ever(lambda: stream.receive_frame(FRAME_BYTES_MAX))


def test_blobs_go_over_tls_and_nothing_else_does(caplog: pytest.LogCaptureFixture) -> None:
    """§13.1, §13.5"""
    caplog.set_level(logging.INFO)

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        other.handle(CONTROL_PROTOCOL, echo)
        assert isinstance(await one.open(other.node_id, CONTROL_PROTOCOL), FrameStream)
        assert one.traffic(other.node_id).blobs_by == ""
        for _ in range(2):
            stream = await over_tls(one, other)
            assert stream.peer == other.node_id
            frame = Random(1).randbytes(100_000)
            assert await says(stream, frame) == frame
        assert one.traffic(other.node_id).blobs_by == "tls"
        told = [line for line in caplog.messages if line == f"blobs from {other.node_id} come over TLS"]
        assert len(told) == 1

    run(scenario)


def test_both_ends_know_each_other() -> None:
    """§13.4: the server by the token, the client by the certificate."""

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        kept = Kept()
        other.handle(BLOB_PROTOCOL, kept)
        stream = await over_tls(one, other)
        assert (stream.peer, (await kept.next()).peer) == (other.node_id, one.node_id)

    run(scenario)


def test_what_goes_over_tls_is_counted() -> None:
    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        stream = await over_tls(one, other)
        before = one.counters.bytes_sent
        await says(stream, bytes(1_000_000))
        size = 4 + 1_000_000 + 62 * 22  # the length, the frame, and what TLS puts around 62 records
        sent, received, _ = one._tls.traffic(other.node_id)
        assert sent == size
        assert size <= received < size + 4 * 22  # a record that is read in two pieces counts as two
        assert one.counters.bytes_sent - before >= size
        assert size < one.traffic(other.node_id).bytes_sent < size + 10_000
        assert size < other.traffic(one.node_id).bytes_received < size + 10_000
        assert one.counters.stranger_bytes == other.counters.stranger_bytes == 0
        await one.disconnect(other.node_id)
        assert one.traffic(other.node_id).bytes_sent == 0

    run(scenario)


def test_a_peer_put_out_in_the_middle_of_a_transfer_is_cut_off() -> None:
    """§13.7"""

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        kept = Kept()
        other.handle(BLOB_PROTOCOL, kept)
        stream = await over_tls(one, other)
        reader = await kept.next()

        async def send() -> None:
            with pytest.raises(StreamClosed):
                await _for_ever(lambda: stream.send_frame(bytes(1_000_000)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await reader.receive_frame(FRAME_BYTES_MAX)
            assert server_of(other).offer(one.node_id, HERE) is not None
            other.set_door(lambda peer: False)
            with pytest.raises(StreamClosed):
                await reader.receive_frame(FRAME_BYTES_MAX)
        assert other.counters.stranger_bytes == 0
        assert not server_of(other)._tokens.outstanding(one.node_id, trio.current_time())

    run(scenario)


@pytest.mark.parametrize("end", ["disconnect", "refusal", "libp2p"])
def test_the_end_of_the_connection_is_the_end_of_its_streams(end: str) -> None:
    """§13.7"""

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        kept = Kept()
        other.handle(BLOB_PROTOCOL, kept)
        stream, reader = await over_tls(one, other), await kept.next()
        if end == "disconnect":
            await other.disconnect(one.node_id)
        elif end == "refusal":
            for _ in range(3):
                other.conduct.fault(one.node_id, "overrun", "it sent far too much")
        else:
            await one._inner.connections(next(iter(one._inner.swarm.connections)))[0].close()
        await _ends(stream)
        await _ends(reader)
        with pytest.raises(StreamClosed):
            await stream.send_frame(b"still there?")
        if end == "refusal":
            with pytest.raises(Unreachable):
                await one.open(other.node_id, BLOB_PROTOCOL)
        else:
            await over_tls(one, other)

    run(scenario)


def test_a_port_that_is_blocked_is_done_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """§13.9: and who has waited once does not wait again, for a while."""
    caplog.set_level(logging.INFO)

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        async with trio.open_nursery() as nursery:
            monkeypatch.setattr(tls_ways, "BULK_WAY_DEADLINE_S", 0.5)
            silent = await nursery.start(trio.serve_tcp, lambda stream: trio.sleep_forever(), 0)
            blocked = f"/ip4/{HERE}/tcp/{silent[0].socket.getsockname()[1]}"
            monkeypatch.setattr(tls_caller, "few_names", lambda addresses: [blocked])
            stream = await one.open(other.node_id, BLOB_PROTOCOL)
            assert isinstance(stream, FrameStream)
            frame = Random(2).randbytes(300_000)
            assert await says(stream, frame) == frame
            assert one.traffic(other.node_id).blobs_by == "libp2p"
            assert isinstance(await one.open(other.node_id, BLOB_PROTOCOL), FrameStream)
            assert sum(line.startswith("no address leads") for line in caplog.messages) == 1
            monkeypatch.setattr(tls_caller, "few_names", list)
            monkeypatch.setattr(tls_ways, "BULK_WAY_DEADLINE_S", BULK_WAY_DEADLINE_S)
            known = one._tls._peers.of(other.node_id)
            assert trio.current_time() < known.retry_at <= trio.current_time() + BULK_RETRY_S
            known.retry_at = trio.current_time()  # the while is over
            assert await says(await over_tls(one, other), frame) == frame
            assert one.traffic(other.node_id).blobs_by == "tls"
            nursery.cancel_scope.cancel()
        assert [line.split()[-1] for line in caplog.messages if line.startswith("blobs from")] == ["libp2p", "TLS"]

    run(scenario)


def test_a_port_that_refuses_is_done_without_and_tried_again_when_the_peer_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """§13.9"""

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        monkeypatch.setattr(tls_caller, "few_names", lambda addresses: [NOBODY])
        assert isinstance(await one.open(other.node_id, BLOB_PROTOCOL), FrameStream)
        monkeypatch.setattr(tls_caller, "few_names", list)
        assert isinstance(await one.open(other.node_id, BLOB_PROTOCOL), FrameStream)
        await one.disconnect(other.node_id)
        await over_tls(one, other)

    run(scenario)


class Breaker:
    """Passes on what comes, and ends each connection over TLS after a while: a box on the way that does not like it."""

    BYTES = 20_000

    def __init__(self, port: int) -> None:
        self._port = port
        self.broken = 0

    async def __call__(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream(HERE, self._port)
        is_tls = await near.socket.recv(1, socket.MSG_PEEK) == TLS_BEGINS
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_on, near, far, math.inf, nursery)
            nursery.start_soon(self._pass_on, far, near, self.BYTES if is_tls else math.inf, nursery)
        self.broken += is_tls
        for end in (near, far):
            await trio.aclose_forcefully(end)

    async def _pass_on(self, one: trio.SocketStream, other: trio.SocketStream, left: float, both: trio.Nursery) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while left > 0 and (came := await one.receive_some()):
                await other.send_all(came)
                left -= len(came)
        both.cancel_scope.cancel()


def test_a_way_that_is_broken_off_on_its_way_is_done_without() -> None:
    """§13.9: somebody between may let a connection over TLS begin, and end it then."""

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        async with trio.open_nursery() as nursery:
            breaker = Breaker(door_of(other))
            between = await nursery.start(trio.serve_tcp, breaker, 0)
            one.learn(other.node_id, [f"/ip4/{HERE}/tcp/{between[0].socket.getsockname()[1]}"])
            frame = Random(2).randbytes(300_000)
            for _ in range(2):  # once it may be a bad line
                with pytest.raises(StreamClosed):
                    await says(await over_tls(one, other), frame)
            stream = await one.open(other.node_id, BLOB_PROTOCOL)
            assert isinstance(stream, FrameStream)
            assert await says(stream, frame) == frame
            assert breaker.broken == 2
            nursery.cancel_scope.cancel()

    run(scenario)


def test_who_is_given_up_while_it_asks_for_a_way_ends_quietly() -> None:
    """Cancelled, or past its deadline, before it has come to a checkpoint; and no way is blamed for that."""

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        doors, _ = one._known[other.node_id]
        for scope in (trio.CancelScope(), trio.CancelScope(deadline=trio.current_time() - 1)):
            asked = await one._open_inside(other.node_id, BULK_WAY_PROTOCOL, doors)
            with scope:
                if scope.deadline == math.inf:
                    scope.cancel()
                await one._tls.open(other.node_id, asked, [])
            assert scope.cancelled_caught
        assert one._tls.is_worth_trying(other.node_id)
        await over_tls(one, other)

    run(scenario)


def test_who_serves_no_blobs_offers_no_way() -> None:
    """§13.2: it is not held against it: once it does, that way is taken."""

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        with pytest.raises(Unreachable, match="does not speak"):
            await other.open(one.node_id, BLOB_PROTOCOL)
        one.handle(BLOB_PROTOCOL, echo)
        await over_tls(other, one)

    run(scenario)


def test_a_peer_has_so_many_streams_and_further_ones_go_the_slow_way() -> None:
    """§13.2"""

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        streams = [await one.open(other.node_id, BLOB_PROTOCOL) for _ in range(PEER_BULK_STREAMS_MAX + 1)]
        assert [type(stream) for stream in streams] == [TlsStream] * PEER_BULK_STREAMS_MAX + [FrameStream]
        await streams[0].reset()
        await until(lambda: other._tls._peers.came_in() < PEER_BULK_STREAMS_MAX)
        await over_tls(one, other)

    run(scenario)


def test_nothing_is_left_of_streams_that_ended() -> None:
    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        await says(await one.open(other.node_id, BLOB_PROTOCOL), b"the first one makes what stays")
        await one.disconnect(other.node_id)
        (await over_tls(one, other)).cut()
        await until(lambda: not other._tls._peers.came_in())
        before = psutil.Process().num_fds(), trio.lowlevel.current_statistics().tasks_living
        for number in range(50):
            stream = await over_tls(one, other)
            assert await says(stream, b"hello") == b"hello"
            await (stream.close if number % 2 else stream.reset)()
        await until(lambda: not other._tls._peers.came_in() and not one._tls._peers.of(other.node_id).streams)

        def is_as_before() -> bool:
            now = psutil.Process().num_fds(), trio.lowlevel.current_statistics().tasks_living
            return now[0] <= before[0] and now[1] <= before[1] + 1

        await until(is_as_before)

    run(scenario)


def test_a_stop_closes_all() -> None:
    left: list[Stream] = []

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        left.append(await over_tls(one, other))

    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    run(scenario)
    assert before == (len(os.listdir("/proc/self/fd")) if before else 0)


def test_who_was_dialled_finds_the_dialler_at_its_known_addresses() -> None:
    """§13.8"""

    async def scenario(one: Libp2pNetwork, other: Libp2pNetwork) -> None:
        one.handle(BLOB_PROTOCOL, echo)
        await over_tls(one, other)
        assert other._dialled(one.node_id) == []
        assert (await over_tls(other, one)).peer == one.node_id
        other.learn(one.node_id, [])
        assert isinstance(await other.open(one.node_id, BLOB_PROTOCOL), FrameStream)

    run(scenario)
