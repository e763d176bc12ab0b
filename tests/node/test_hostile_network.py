"""What a peer can cost a node by what it asks for and does not take."""

import trio
from network_ground import Ground, run_on_simulated

from node.network.links import OUTBOX_BYTES_MAX, Links
from protocol.keys import node_id_of

LONG = 3 * 1024 * 1024  # bytes: the longest commit


def test_a_peer_that_reads_nothing_costs_bounded_memory() -> None:
    async def test(ground: Ground) -> None:
        (network,) = await ground.nodes(1)

        async def hear(*_: object) -> None:
            await trio.lowlevel.checkpoint()

        links = Links(network, hear)
        away = node_id_of(bytes(31) + b"\x63")
        for _ in range(24):
            links.send(away, "run", bytes(LONG))
        links.send(away, "run", b"the newest")
        (status,) = links.status()
        assert status.waiting == OUTBOX_BYTES_MAX // LONG + 1
        assert status.waiting + status.dropped == 25

    run_on_simulated(test)
