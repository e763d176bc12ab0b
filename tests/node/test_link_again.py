"""`fednode start --link TOKEN` on a home that has been linked before: at every start, after a power cut, after a
revocation (docs/protocol.md §10.6, §10.8)."""

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from node.home.identity import CERTIFICATE, Keys
from node.home.key_files import MEMBER_KEY
from node.membership.linking import link_first
from node.membership.siblings import write_siblings
from node.seams import Unreachable
from protocol.entrance.device_link import make_device_token
from protocol.entrance.messages import Revoked, SiblingHello, Welcome, open_entrance_message
from protocol.entrance.siblings import Siblings
from protocol.errors import Refused
from protocol.fields import NodeAddresses
from protocol.group.key import seal_key_of
from protocol.identity import make_certificate, make_revocation
from protocol.keys import MemberId, member_id_of, node_id_of, public_key_of
from protocol.wire import pack
from simulations.nodes.simulated_node import keys_of
from simulations.world.deterministic import run_deterministically
from simulations.world.disk import ChunkPool
from simulations.world.faulty_disk import FaultyDisk

NOW = 1_800_000_000


class Conversation:
    """With somebody who hears one frame and answers."""

    def __init__(self, heard: list[bytes], answer: bytes) -> None:
        self._heard, self._answer = heard, answer

    async def send_frame(self, frame: bytes) -> None:
        self._heard.append(frame)

    async def receive_frame(self, bytes_max: int) -> bytes:
        return self._answer

    async def close(self) -> None: ...


class LinkedHome:
    """Of the laptop, that ann's node has linked. `keys` has a member's key of the laptop's own, from before."""

    def __init__(self) -> None:
        self.ann, self.laptop = keys_of(1, 1), keys_of(2, 1)
        self.disk = FaultyDisk(Random(1), ChunkPool())
        self.keys = Keys(self.laptop.key, self.laptop.member_key, self.laptop.seal_key.private_bytes_raw())
        self.node_id = node_id_of(public_key_of(self.laptop.key))
        self.member_id: MemberId = member_id_of(public_key_of(self.ann.member_key))
        self.network: Any = SimpleNamespace(node_id=self.node_id, learn=lambda *where: None, open=self._open)
        self.heard: list[bytes] = []  # by the token's maker
        self.answer: bytes | None = None  # of it; it is not there without one

    async def _open(self, peer: str, protocol: str) -> Any:
        if self.answer is None:
            raise Unreachable("nobody listens there", remedy="")
        return Conversation(self.heard, self.answer)

    def token(self, host: Any = None) -> str:
        node_id = host or node_id_of(public_key_of(self.ann.key))
        addresses = NodeAddresses(node_id=node_id, addresses=(), entrance_addresses=("/ip4/127.0.0.1/tcp/9",))
        key = self.ann.member_key
        return make_device_token(key, member_name="ann", seed=bytes(32), expires_at=NOW + 60, host=addresses)

    async def certify(self) -> None:
        seal_key = seal_key_of(self.keys.seal_secret)
        names = {"member_name": "ann", "node_name": "laptop"}
        raw = make_certificate(self.ann.member_key, self.keys.node, **names, seal_key=seal_key, issued_at=NOW)
        await self.disk.write(CERTIFICATE, raw)

    async def link(self, token: str, now: int = NOW) -> Keys:
        return await link_first(self.disk, self.network, self.keys, "laptop", token, now)


def test_a_power_cut_before_the_old_key_is_away_is_made_good() -> None:
    """§10.6: the certificate is there and the member's key of before still lies beside it; also when the token has
    expired meanwhile. Else the node would certify itself for its old member again, and look well."""

    async def main() -> None:
        home = LinkedHome()
        await home.certify()
        await home.disk.write(MEMBER_KEY, b"pem")
        keys = await home.link(home.token(), NOW + 3600)
        assert keys.member is None
        assert await home.disk.read(MEMBER_KEY) is None
        old = member_id_of(public_key_of(home.laptop.member_key))
        assert await home.disk.read(f"{MEMBER_KEY}.{old}") == b"pem"

    run_deterministically(1, main)


def test_no_token_makes_a_revoked_home_look_well() -> None:
    """§10.8"""

    async def main() -> None:
        home = LinkedHome()
        await home.certify()
        await home.link(home.token())
        siblings = Siblings(home.member_id)
        siblings.add_revocation(make_revocation(home.ann.member_key, home.node_id, issued_at=NOW))
        await write_siblings(home.disk, siblings)
        with pytest.raises(Refused, match="was revoked by its member") as refused:
            await home.link(home.token())
        assert "new home" in refused.value.remedy
        assert await home.link(home.token(), NOW + 3600)  # the command that it starts with is no attempt to come back

    run_deterministically(1, main)


def test_a_home_that_has_not_heard_of_its_revocation_asks_who_made_the_token() -> None:
    """§10.10: it was off line when it was revoked, and the start is refused instead of looking well."""

    async def main() -> None:
        home = LinkedHome()
        await home.certify()
        assert await home.link(home.token())  # the maker is off line: that keeps no node from starting
        home.answer = pack(Welcome())
        assert await home.link(home.token())
        hello = open_entrance_message(home.heard[0])
        assert isinstance(hello, SiblingHello)  # the token's secret is not used up
        assert hello.certificate == await home.disk.read(CERTIFICATE)
        home.answer = pack(Revoked(revocation=make_revocation(home.ann.member_key, home.node_id, issued_at=NOW)))
        with pytest.raises(Refused, match="was revoked by its member"):
            await home.link(home.token())
        home.answer = None
        with pytest.raises(Refused, match="was revoked by its member"):  # it is known here now
            await home.link(home.token())

    run_deterministically(1, main)


def test_a_machine_does_not_take_a_token_of_its_own() -> None:
    """§10.4"""

    async def main() -> None:
        home = LinkedHome()
        with pytest.raises(Refused, match="has made this device token itself") as refused:
            await home.link(home.token(home.node_id))
        assert "the other machine" in refused.value.remedy

    run_deterministically(1, main)
