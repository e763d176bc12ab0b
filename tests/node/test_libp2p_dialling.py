"""Dialling a peer with several addresses over real sockets, and what the library's own dialler gets wrong (§12.8)."""

import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import node.network.addresses as libp2p_addresses
from node.network.addresses import LOOKUPS_MAX, NAME_ADDRESSES_MAX
from node.network.libp2p.network import Libp2pNetwork, open_network
from node.network.libp2p.secure import DoorShut
from node.network.reach import OUTSIDE_MAX
from node.seams import CONTROL_PROTOCOL, Stream, StreamClosed, Unreachable
from protocol.keys import NodeId
from protocol.limits import FRAME_BYTES_MAX

ANY_PORT = "/ip4/127.0.0.1/tcp/0"
NOBODY = "/ip4/127.0.0.1/tcp/9"
DEADLINE_S = 30.0


async def _echo(stream: Stream) -> None:
    try:
        while True:
            await stream.send_frame(await stream.receive_frame(FRAME_BYTES_MAX))
    except StreamClosed:
        return


@asynccontextmanager
async def two() -> AsyncIterator[tuple[Libp2pNetwork, Libp2pNetwork]]:
    async with (
        open_network(Ed25519PrivateKey.generate(), [ANY_PORT]) as one,
        open_network(Ed25519PrivateKey.generate(), [ANY_PORT, ANY_PORT]) as other,
    ):
        for network in (one, other):
            network.set_door(lambda peer: True)
            network.handle(CONTROL_PROTOCOL, _echo)
        with trio.fail_after(DEADLINE_S):
            yield one, other


class Silent:
    """Somebody who takes connections and says nothing, as a firewall that swallows packets; counts who comes."""

    def __init__(self) -> None:
        self.callers = 0

    async def __call__(self, stream: trio.SocketStream) -> None:
        self.callers += 1
        await trio.sleep_forever()

    async def listen(self, nursery: trio.Nursery) -> str:
        (listener,) = await nursery.start(partial(trio.serve_tcp, self, 0, host="127.0.0.1"))
        return f"/ip4/127.0.0.1/tcp/{listener.socket.getsockname()[1]}"


async def speaks(one: Libp2pNetwork, peer: NodeId) -> float:
    """How long it takes to get an answer from `peer`."""
    begun = trio.current_time()
    stream = await one.open(peer, CONTROL_PROTOCOL)
    await stream.send_frame(b"there?")
    assert await stream.receive_frame(10) == b"there?"
    return trio.current_time() - begun


@pytest.mark.real
def test_silent_addresses_hold_up_nobody_and_the_good_one_is_remembered() -> None:
    """The library dials only the first address of a kind; waiting each out would take the whole deadline."""

    async def main() -> None:
        silent = Silent()
        async with two() as (one, other), trio.open_nursery() as nursery:
            deaf = [await silent.listen(nursery) for _ in range(4)]
            one.learn(other.node_id, [*deaf, NOBODY, *other.addresses()])
            assert await speaks(one, other.node_id) < 5.0
            assert silent.callers == 4
            await one.disconnect(other.node_id)
            await speaks(one, other.node_id)
            assert silent.callers == 4
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.real
def test_names_cost_no_more_than_a_few_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    """§12.8: names whose servers never answer, and one with a hundred addresses. Other threads of the node go on."""
    asked: list[str] = []
    tried: list[str] = []
    answer = threading.Event()

    def getaddrinfo(host: str, port: object, **how: object) -> list[tuple[object, ...]]:
        asked.append(host)
        if host.startswith("hangs"):
            answer.wait(DEADLINE_S)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.1.{number}", 0)) for number in range(100)]

    async def open_tcp_stream(host: str, port: int) -> trio.SocketStream:
        tried.append(host)
        raise ConnectionRefusedError("refused")

    async def main() -> None:
        limiter = trio.CapacityLimiter(LOOKUPS_MAX)
        monkeypatch.setattr(libp2p_addresses.socket, "getaddrinfo", getaddrinfo)
        async with two() as (one, other):
            monkeypatch.setattr(trio, "open_tcp_stream", open_tcp_stream)
            other.learn(one.node_id, [f"/dns/hangs{number}.example.org/tcp/9" for number in range(16)])
            with pytest.raises(Unreachable):
                await other.open(one.node_id, CONTROL_PROTOCOL)
            assert len(asked) == OUTSIDE_MAX
            assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
            with pytest.raises(ConnectionRefusedError):
                await libp2p_addresses.connect_tcp("many.example.org", 9, limiter)
            assert len(tried) == NAME_ADDRESSES_MAX

    try:
        trio.run(main)
    finally:
        answer.set()


def test_a_lost_address_is_not_remembered_for_ever() -> None:
    """The one that answered last is gone: the others are tried as before."""

    async def main() -> None:
        async with two() as (one, other):
            first, second = other.addresses()
            one.learn(other.node_id, [first])
            await speaks(one, other.node_id)
            await one.disconnect(other.node_id)
            one.learn(other.node_id, [NOBODY, second])
            await speaks(one, other.node_id)
            assert one.traffic(other.node_id).path == "direct"

    trio.run(main)


@pytest.mark.real
def test_many_dials_in_vain_do_not_block_the_peer() -> None:
    """The library refuses for a minute to dial a peer again that it could not reach."""

    async def main() -> None:
        async with two() as (one, other):
            for _ in range(5):
                one.learn(other.node_id, [NOBODY])
                with pytest.raises(Unreachable) as unreachable:
                    await one.open(other.node_id, CONTROL_PROTOCOL)
                assert [each.partition(": ")[0] for each in unreachable.value.tried] == [NOBODY]
            one.learn(other.node_id, other.addresses())
            assert await speaks(one, other.node_id) < 5.0

    trio.run(main)


@pytest.mark.real
def test_what_came_of_each_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of those from which nothing came at all, before the deadline's end."""
    monkeypatch.setattr("node.network.libp2p.network.DIAL_DEADLINE_S", 2.0)

    async def main() -> None:
        silent = Silent()
        async with two() as (one, other), trio.open_nursery() as nursery:
            deaf = await silent.listen(nursery)
            one.learn(other.node_id, [deaf, NOBODY, "/unix/nowhere"])
            with pytest.raises(Unreachable) as unreachable:
                await one.open(other.node_id, CONTROL_PROTOCOL)
            no_answer, refused, no_address = unreachable.value.tried
            assert no_answer == f"{deaf}: no answer"
            assert refused.startswith(f"{NOBODY}: ")
            assert "refused" in refused
            assert "not an address" in no_address
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.real
@pytest.mark.parametrize(("shut", "reached"), [(1, True), (2, False), (3, False)])
def test_who_hangs_up_at_one_address_is_dialled_at_another(
    monkeypatch: pytest.MonkeyPatch, shut: int, reached: bool
) -> None:
    """§12.8: somebody on the local network may pass bytes on to the peer and cut them; two do not both do that."""

    async def main() -> None:
        async with two() as (one, other):
            dial, tried = one._inner._dial, []

            async def passed_on(peer: NodeId, address: str, bytes_max: int | None):
                tried.append(address)
                if len(tried) <= shut:
                    raise RuntimeError("the muxer was not agreed on") from DoorShut("hung up")
                return await dial(peer, address, bytes_max)

            monkeypatch.setattr(one._inner, "_dial", passed_on)
            one.learn(
                other.node_id, [NOBODY.replace("9", str(port)) for port in range(1, shut + 1)] + other.addresses()
            )
            if reached:
                await speaks(one, other.node_id)
                return
            with pytest.raises(Unreachable) as unreachable:
                await one.open(other.node_id, CONTROL_PROTOCOL)
            assert unreachable.value.refused
            assert len(tried) == 2

    trio.run(main)
