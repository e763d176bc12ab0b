"""A node: the seams and services put together. The same class runs in a daemon and, many times, in a simulation."""

import logging
import os
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from node.api.hub import Hub
from node.api.node_service import Service
from node.api.views import log_view
from node.data.datasets import DataSets
from node.home.doctor import CLOCK_QUESTION
from node.home.identity import Identity, Keys, load_identity
from node.home.limits import Limits
from node.home.sealing import Vault
from node.logs.record_log import RecordHandler
from node.logs.share import LOGS_QUESTION, LogShare
from node.membership.copies import Copies
from node.membership.group_keys import KEY_CHANNEL
from node.membership.group_place import GroupPlace
from node.membership.groups import PRESENCE_CHANNEL, SYNC_CHANNEL, Groups
from node.membership.linking import Linker
from node.membership.profile import Profile
from node.membership.siblings import SIBLING_CHANNEL, SiblingNodes
from node.membership.whereabouts import ADDRESS_CHANNEL
from node.membership.witness import Witness
from node.network.bulk.bulk import Bulk, Transfer
from node.network.bulk.pace import Pace
from node.network.links import RUN_CHANNEL, Links
from node.network.questions import Questions
from node.record.retention import Retention
from node.run.histories import HISTORY_QUESTION
from node.run.policy import Policy
from node.run.runs import Runs
from node.run.task_files import TaskFiles
from node.seams import Disk, Network, Record, Trainer
from node.system.peer_history import PeerHistory
from node.system.peer_links import PING_CHANNEL, PONG_CHANNEL, PeerLinks
from node.system.prometheus import Counts
from protocol.errors import FednodeError, UnknownKind
from protocol.group.operations import OpenOperation
from protocol.group.presence import Capacity, Presence
from protocol.keys import BlobId, NodeId, RunId
from tracker.blobs.quota import Quota
from tracker.tables.rows import LogRow, NodeRow

if TYPE_CHECKING:
    from trio_typing import TaskStatus

    from node.network.mdns import LocalNetwork

log = logging.getLogger("fednode.node")


class Node:
    """One node on its four seams.

    Args:
        key, member_key, seal_key: its identity. A node that was linked has no member's key.
        name, member_name: what people call the node and its owner.
        vault: seals the groups' keys on the disk; None leaves them in clear.
        random: the source of everything random. For a real node, the system's (nonces and keys come from it).
        capacity: measured anew at every call.
        now: the wall clock, seconds since 1970.
        home: where it lives, for people to read.
        outside: multiaddresses of its door that outsiders can dial, as its owner says.
        pace, quota: the limits of bulk transfer and of blobs; `quota` is what the disk keeps to.
    """

    def __init__(
        self,
        *,
        key: Ed25519PrivateKey,
        member_key: Ed25519PrivateKey | None,
        seal_key: X25519PrivateKey,
        name: str,
        network: Network,
        disk: Disk,
        trainer: Trainer,
        record: Record,
        random: Random,
        version: str,
        capacity: Callable[[], Capacity],
        member_name: str = "",
        vault: Vault | None = None,
        home: str = "",
        outside: Sequence[str] = (),
        pace: Pace | None = None,
        quota: Quota | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.network = network
        self.disk = disk
        self.trainer = trainer
        self.record = record
        self.version = version
        self.home = home
        self._outside = tuple(outside)
        self.pid = os.getpid()
        self.now = now
        self.random = random
        self.capacity = capacity
        self.limits = Limits(disk, pace or Pace(), quota or Quota())
        self.hub = Hub()
        self.counts = Counts()
        self.started_at = now()
        self.stopping = trio.Event()
        self.local_network: LocalNetwork | None = None
        self._keys = Keys(key, member_key, seal_key.private_bytes_raw(), vault or Vault())
        self._name = name
        self._member_name = member_name or name
        self.identity: Identity
        self.siblings: SiblingNodes
        self.profile: Profile
        self.linker: Linker
        self.groups: Groups
        self.copies: Copies
        self.runs: Runs
        self.data_sets: DataSets
        self.policy: Policy
        self.task_files: TaskFiles
        self.service: Service

    async def __aenter__(self) -> Self:
        """Read everything that the node had. It talks to nobody before `run`."""
        await self._load_owner()
        self.data_sets = DataSets(self.disk, self.trainer.offload, _datetime(self.now))
        await self.data_sets.load()
        self.task_files = TaskFiles(self.disk, self.trainer.offload)
        await self.task_files.load()
        self.links = Links(self.network, self._on_message)
        self.peer_history = PeerHistory()
        self.peer_links = PeerLinks(self.network, self.links, self.random.randbytes)
        self.bulk = Bulk(
            self.network, self.disk, self._may_read, self._on_transfer, pace=self.limits.pace, random=self.random
        )
        self.groups = Groups(
            self.identity,
            self.network,
            self.disk,
            self.links,
            self.siblings,
            version=self.version,
            now=self.now,
            random=self.random,
            describe=self._describe,
            on_operations=self._on_operations,
            on_presence=self._on_presence,
            on_entered=self.profile.entered,
            on_note=lambda text: self.hub.publish({"type": "note", "text": text}),
            outside=self._outside,
        )
        self.copies = Copies(self.started_at, self.now, self._found_copy)
        self.groups.neighbours.addresses.on_ours = self.copies.heard
        self.witness = Witness(self.identity, self.groups.places, say=self.groups.say, random=self.random)
        self.retention = Retention(self)
        await self.retention.load()
        self.questions = Questions(
            self.network,
            {
                HISTORY_QUESTION: self._tell_history,
                LOGS_QUESTION: LogShare(self).answer,
                CLOCK_QUESTION: self._tell_time,
            },
            self.groups.member_of,
        )
        self.runs = Runs(
            self.identity,
            self.groups,
            disk=self.disk,
            trainer=self.trainer,
            record=self.record,
            links=self.links,
            bulk=self.bulk,
            data_sets=self.data_sets,
            policy=self.policy,
            task_files=self.task_files,
            now=self.now,
            random=self.random,
            capacity=self.capacity,
            ask=self.questions.ask,
            changed=self._on_run_changed,
            moved=self._on_moved,
        )
        self.service = Service(self)
        self.note_identity()
        await self.groups.load()
        await self.siblings.look_into_groups()
        return self

    async def _load_owner(self) -> None:
        """Whose node this is, and what goes with it."""
        self.identity = await load_identity(self._keys, self._name, self._member_name, self.disk, self.now)
        self.policy = Policy(self.disk, self.identity.member_id)
        await self.policy.load()
        self.profile = Profile(self)
        await self.profile.load()
        self.siblings = SiblingNodes(self)
        await self.siblings.load()
        self.linker = Linker(self)

    def note_identity(self) -> None:
        """Record who this node is, and whose."""
        identity = self.identity
        self.record.add(self._node_row(identity.node_id, identity.name, identity.member_id, self.version, "{}"))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):
            try:
                await self.groups.neighbours.addresses.save()
            except FednodeError as problem:  # hints only, and nobody is left to mend it
                log.error("addresses of other nodes are not remembered: %s", problem)

    async def run(self, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Live until cancelled. Started once everything that was going on before goes on."""
        self.questions.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.links.run)
            nursery.start_soon(self.bulk.run)
            await nursery.start(self.runs.run)
            nursery.start_soon(self.groups.run)
            nursery.start_soon(self.siblings.run)
            nursery.start_soon(self.witness.run)
            nursery.start_soon(self.service.publish_changes)
            task_status.started()

    def _found_copy(self, text: str) -> None:
        self.groups.announcer.renew()  # so that the other one hears of us, too
        self.hub.publish({"type": "note", "text": text})

    async def live_on_local_network(self) -> None:
        """Tell the local network of this node, and listen there for others, until cancelled."""
        from node.network.mdns import LocalNetwork  # simulated nodes have no such network

        whereabouts = self.groups.whereabouts
        self.local_network = LocalNetwork(
            self.identity.node_id,
            addresses=self.network.addresses,
            entrance_addresses=self.network.entrance_addresses,
            is_searching=whereabouts.is_searching,
            on_sighting=whereabouts.sighted,
        )
        await self.local_network.run()

    # --- what comes in -------------------------------------------------------------------------------------------
    async def _on_message(self, peer: NodeId, channel: str, payload: bytes) -> None:
        if channel == SYNC_CHANNEL:
            await self.groups.on_sync(peer, payload)
        elif channel == RUN_CHANNEL:
            await self.runs.on_message(peer, payload)
        elif channel == PRESENCE_CHANNEL:
            self.groups.on_presence(peer, payload)
        elif channel == ADDRESS_CHANNEL:
            self.groups.whereabouts.on_message(peer, payload)
        elif channel == KEY_CHANNEL:
            await self.groups.keys.on_message(peer, payload)
        elif channel == SIBLING_CHANNEL:
            await self.siblings.on_message(peer, payload)
        elif channel == PING_CHANNEL:
            self.peer_links.on_ping(peer, payload)
        elif channel == PONG_CHANNEL:
            self.peer_links.on_pong(peer, payload)
        else:
            raise UnknownKind(f"{peer} speaks on a channel {channel!r} that this node does not know")

    async def _on_operations(self, place: GroupPlace, operations: Sequence[OpenOperation]) -> None:
        certified = {operation.certificate.node_id for operation in operations if operation.certificate}
        for node_id, entry in place.state().nodes.items() if certified else ():
            if node_id in certified:
                self.record.add(self._node_row(node_id, entry.name, entry.member_id, "", "{}"))
        self.service.mark_group(place.group)
        await self.siblings.look(operations)
        await self.service.memberships.look(place)
        self.witness.look(place)
        await self.runs.on_operations(place, operations)

    def _on_presence(self, place: GroupPlace, presence: Presence) -> None:
        member = place.state().nodes[presence.node_id].member_id

        def rows() -> tuple[NodeRow]:
            capacity = presence.capacity.model_dump_json()
            return (self._node_row(presence.node_id, presence.name, member, presence.version, capacity),)

        self.record.add_once(("presence", presence.node_id, str(presence.sequence)), rows)
        self.service.mark_peer(presence.node_id)

    def _node_row(self, node: str, name: str, member: str, version: str, capacity: str) -> NodeRow:
        return NodeRow(node, name, member, version, capacity, self.now())

    # --- what the services ask for -------------------------------------------------------------------------------
    def _describe(self) -> tuple[Capacity, tuple[str, ...], int]:
        runs = tuple(known.run_id for known in self.runs.active())[:64]
        return self.capacity(), runs, len(self.data_sets.all())

    def _tell_history(self, peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
        return self.runs.histories.answer(peer, request)

    def _tell_time(self, peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
        return self.service.doctor.tell_time(peer, request)

    def _may_read(self, peer: NodeId, blob: BlobId) -> bool:
        return self.runs.may_read(peer, blob)

    def _on_transfer(self, transfer: Transfer) -> None:
        if not transfer.incoming:
            self.runs.on_sent(transfer)

    def _on_run_changed(self, run: RunId, kind: str, rows: tuple[Any, ...]) -> None:
        if kind == "counted":
            self.counts.count(rows)
            return
        self.service.mark_run(run)
        if kind == "metrics":
            self.service.mark_metrics(rows)
        elif kind == "log":
            for row in rows:
                self._tell_line(row)

    def log_handler(self) -> logging.Handler:
        """What puts the process's log lines into this node's record. For a process with one node."""
        return RecordHandler(self.identity.node_id, self._take_log_row, self.now, self.runs.numbers)

    def _take_log_row(self, row: LogRow) -> None:
        self.record.add(row)
        self._tell_line(row)

    def _tell_line(self, row: LogRow) -> None:
        if self.hub.is_watched:
            self.hub.publish_line(log_view(row))

    def _on_moved(self, run: RunId, source: NodeId, target: NodeId, kind: str, size: int, round_number: int) -> None:
        self.hub.publish(
            {
                "type": "transfer",
                "run_id": run,
                "from": source,
                "to": target,
                "kind": kind,
                "bytes": size,
                "round": round_number,
            }
        )


def _datetime(now: Callable[[], float]) -> Callable[[], Any]:
    from datetime import UTC, datetime

    return lambda: datetime.fromtimestamp(now(), UTC)
