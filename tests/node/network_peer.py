"""A node's network in a process of its own, to be killed and stopped by tests: prints where it is, then echoes."""

import json

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.network.libp2p.network import open_network
from node.seams import CONTROL_PROTOCOL, Stream, StreamClosed
from protocol.limits import FRAME_BYTES_MAX


async def _echo(stream: Stream) -> None:
    try:
        while True:
            await stream.send_frame(await stream.receive_frame(FRAME_BYTES_MAX))
    except StreamClosed:
        return


async def main() -> None:
    async with open_network(Ed25519PrivateKey.generate(), ["/ip4/127.0.0.1/tcp/0"]) as network:
        network.set_door(lambda peer: True)
        network.handle(CONTROL_PROTOCOL, _echo)
        print(json.dumps({"node_id": network.node_id, "addresses": network.addresses()}), flush=True)
        await trio.Event().wait()


if __name__ == "__main__":
    trio.run(main)
