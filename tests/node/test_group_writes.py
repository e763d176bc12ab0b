"""What a group's journal holds while several write into it at once."""

from collections.abc import Awaitable, Callable

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from trio.testing import wait_all_tasks_blocked

from node.home.identity import Identity, Keys
from node.home.sealing import Vault
from node.membership.group_place import GroupPlace, create_place
from protocol.entrance.invitation import invite
from protocol.group.key import seal_key_of
from protocol.group.log import GroupLog
from protocol.group.operation_kinds import RunPropose
from protocol.group.operations import OpenOperation
from protocol.identity import make_certificate
from protocol.keys import member_id_of, node_id_of, public_key_of
from simulations.world.disk import SimulatedDisk

NODE, MEMBER, SEAL_SECRET = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate(), b"\5" * 32
NAMES = {"member_name": "Ann", "node_name": "alpha", "seal_key": seal_key_of(SEAL_SECRET), "issued_at": 1}
US = Identity(
    Keys(NODE, MEMBER, SEAL_SECRET, Vault()),
    "alpha",
    node_id_of(public_key_of(NODE)),
    member_id_of(public_key_of(MEMBER)),
    make_certificate(MEMBER, NODE, **NAMES),  # type: ignore[arg-type]
)


class SlowDisk(SimulatedDisk):
    """A disk whose journals take a record only while `may_write`."""

    may_write = trio.Event()

    async def append(self, journal: str, record: bytes) -> None:
        await self.may_write.wait()
        await super().append(journal, record)


def on_a_slow_disk(test: Callable[[GroupPlace, SlowDisk, trio.Nursery], Awaitable[None]]) -> None:
    """Run `test` on a group whose disk is taking its time over a first operation, while a second one waits; then see
    that nothing in the journal rests on what does not lie there before it."""

    async def main() -> None:
        disk = SlowDisk()
        disk.may_write = trio.Event()
        disk.may_write.set()
        place = await create_place("ward", disk, US, 1.0, lambda count: b"\7" * count)
        disk.may_write = trio.Event()
        async with trio.open_nursery() as nursery:
            for name in (b"first", b"second"):
                nursery.start_soon(place.say, RunPropose(manifest=name), 2.0)
                await wait_all_tasks_blocked()
            await test(place, disk, nursery)
            await wait_all_tasks_blocked()
            disk.may_write.set()
        await place.keep([])
        assert not place.has_unkept
        again = GroupLog(place.group)
        for record in await disk.records(f"group-{place.group}"):
            assert again.add(record).added, "it rests on what comes later, or never"
        assert [operation.hash for operation in again] == [operation.hash for operation in place.log]

    trio.run(main)


def invited(place: GroupPlace) -> OpenOperation:
    """An operation that is in the log before anybody writes it."""
    operation, _ = invite(
        place.log, NODE, seed=b"\3" * 32, role="member", uses=1, expires_at=9_000, entrances=(), now=2
    )
    return operation


def test_what_waits_to_be_written_comes_before_what_rests_on_it() -> None:
    """Who waits longer for the disk writes on top of what came into the log meanwhile: a crash in between would leave
    a journal that nobody can read on from, and the node would give its next operation the place of one that others
    have."""
    kept: list[OpenOperation] = []

    async def test(place: GroupPlace, disk: SlowDisk, nursery: trio.Nursery) -> None:
        operation = invited(place)

        async def keep() -> None:
            kept.extend(await place.keep([operation]))

        nursery.start_soon(keep)

    on_a_slow_disk(test)
    assert [type(operation.payload).__name__ for operation in kept] == ["InvitePost"]


def test_what_is_in_the_log_is_written_even_if_its_caller_is_given_up() -> None:
    """As at the entrance, where a conversation has a deadline."""

    async def test(place: GroupPlace, disk: SlowDisk, nursery: trio.Nursery) -> None:
        operation = invited(place)
        with trio.CancelScope() as conversation:
            conversation.cancel()
            await place.keep([operation])

    on_a_slow_disk(test)
