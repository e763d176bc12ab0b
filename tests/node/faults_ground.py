"""Two nodes' networks over real sockets, of which the first one's links can be broken by the switch for tests."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tls_ground import ANY_PORT, DEADLINE_S, echo

from node.network.libp2p.faults import FAULTS_VARIABLE
from node.network.libp2p.network import Libp2pNetwork, open_network
from node.seams import CONTROL_PROTOCOL, Stream
from protocol.limits import FRAME_BYTES_MAX

QUIET_S = 0.5  # what has not come by then, on one machine, does not come

Scenario = Callable[["Pair"], Awaitable[None]]


class Pair:
    """Two networks that know and admit each other; the first one's links can be broken."""

    def __init__(self, one: Libp2pNetwork, other: Libp2pNetwork, faults: Path) -> None:
        self.one = one
        self.other = other
        self._faults = faults
        for here, there in ((one, other), (other, one)):
            here.set_door(lambda peer: True)
            here.learn(there.node_id, there.addresses(), there.entrance_addresses())
            here.handle(CONTROL_PROTOCOL, echo)

    async def breaks(self, *modes: str) -> None:
        """Break the link so, and wait until that is seen."""
        faults = self.one._faults
        assert faults is not None
        draft = self._faults.with_suffix(".draft")
        draft.write_text(json.dumps([{"peer": self.other.node_id, "mode": mode} for mode in modes]))
        draft.rename(self._faults)
        while faults._modes.get(self.other.node_id, set()) != set(modes):
            await faults.change()


def run_on_pair(folder: Path, monkeypatch: pytest.MonkeyPatch, scenario: Scenario) -> None:
    async def main() -> None:
        monkeypatch.setenv(FAULTS_VARIABLE, str(folder / "faults"))
        async with open_network(Ed25519PrivateKey.generate(), [ANY_PORT]) as one:
            monkeypatch.delenv(FAULTS_VARIABLE)
            async with open_network(Ed25519PrivateKey.generate(), [ANY_PORT]) as other:
                with trio.fail_after(DEADLINE_S):
                    await scenario(Pair(one, other, folder / "faults"))

    trio.run(main)


async def says_nothing(stream: Stream) -> bool:
    with trio.move_on_after(QUIET_S) as patience:
        await stream.receive_frame(FRAME_BYTES_MAX)
    return patience.cancelled_caught
