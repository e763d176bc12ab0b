"""One side of a transfer in a process of its own, to be killed at any moment: the real network, disk and Bulk.

    python tests/real/transfer_peer.py SOCKET

is a mother: everything is imported once, and for each line of JSON on its standard input she forks a child, which costs
milliseconds where a new process would cost seconds. The child connects to SOCKET and speaks JSON lines there: it says
who it is, what comes in and what came of it, and is told whom it may know and what to fetch.
"""

import gc
import json
import os
import signal
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.home.disk import FileDisk
from node.network.bulk.bulk import Bulk, Transfer
from node.network.libp2p.network import Libp2pNetwork, open_network
from node.network.tls import caller as tls_caller
from protocol.errors import FednodeError
from protocol.keys import BlobId, NodeId

Json = dict[str, Any]
BYTES_MAX = 1 << 30


class Child:
    """One life of one side. `blocked`: no connection to a port for blobs succeeds from here."""

    def __init__(self, wanted: Json, test: socket.socket) -> None:
        self._wanted = wanted
        self._test = test

    def tell(self, **told: object) -> None:
        self._test.sendall(json.dumps(told).encode() + b"\n")

    async def run(self) -> None:
        if self._wanted["blocked"]:
            vars(tls_caller)["connect_tcp"] = _refused
        disk = FileDisk(Path(self._wanted["home"]))
        key = Ed25519PrivateKey.from_private_bytes(bytes([self._wanted["key"]]) * 32)
        async with open_network(key, ["/ip4/127.0.0.1/tcp/0"]) as network, trio.open_nursery() as nursery:
            network.set_door(lambda peer: True)
            bulk = Bulk(network, disk, lambda peer, blob: True, self._moved)
            await nursery.start(bulk.run)
            self.tell(up=network.node_id, addresses=network.addresses(), pid=os.getpid())
            lines = self._test.makefile()
            while line := await trio.to_thread.run_sync(lines.readline, abandon_on_cancel=True):  # type: ignore[call-arg]
                await self._do(json.loads(line), network, bulk, disk, nursery)
            nursery.cancel_scope.cancel()

    def _moved(self, transfer: Transfer) -> None:
        if transfer.incoming:
            self.tell(came=transfer.size)

    async def _do(self, order: Json, network: Libp2pNetwork, bulk: Bulk, disk: FileDisk, nursery: trio.Nursery) -> None:
        if "put" in order:
            self.tell(put=await disk.put_blob(Path(order["put"])))
        elif "learn" in order:
            network.learn(NodeId(order["learn"]), order["addresses"])
        elif "fetch" in order:
            nursery.start_soon(self._fetch, BlobId(order["fetch"]), NodeId(order["source"]), network, bulk)
        else:
            gc.collect()
            self.tell(descriptors=len(os.listdir("/proc/self/fd")), tasks=_tasks())

    async def _fetch(self, blob: BlobId, source: NodeId, network: Libp2pNetwork, bulk: Bulk) -> None:
        try:
            await bulk.fetch(blob, [source], BYTES_MAX)
        except FednodeError as error:
            self.tell(failed=error.what)
        else:
            self.tell(whole=blob, way=network.traffic(source).blobs_by)


async def _refused(*_: object) -> None:
    raise ConnectionRefusedError("the port for blobs is blocked")


def _tasks() -> Counter[str]:
    """How many tasks there are of each kind: what they run, and the calls down to where they wait."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    found: Counter[str] = Counter()
    waiting = [root]
    while waiting:
        task = waiting.pop()
        calls = [frame.f_code.co_qualname + f":{line}" for frame, line in task.iter_await_frames()]
        found[f"{task.name}: {' > '.join(calls)}"] += 1
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


def main(place: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    gc.freeze()
    for line in sys.stdin:
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with socket.socket(socket.AF_UNIX) as test:
            test.connect(place)
            trio.run(Child(json.loads(line), test).run)
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
