"""The node as its local API asks it: actions, and views of what is known. The one implementation of NodeService."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from node.api.inbox.inbox import Inbox
from node.api.run_curves import RunCurves
from node.api.run_list import RunList
from node.api.service.service import Asked, Json, LogPage, LogsQuery, ModelFile, NotFound
from node.api.transfers import Transfers
from node.api.views import group_view, metric_view, peer_view, peers_view, status_view
from node.data.views import DataViews
from node.home.doctor import Doctor
from node.logs.gather import LogGather
from node.membership.group_place import GroupPlace
from node.membership.memberships import Memberships, check_in, turned_away_text
from node.membership.token_words import reach_view
from node.names import id_named
from node.network.reach import host_and_port, outside_address
from node.record.artifacts import Artifacts
from node.record.blob_care import BlobCare
from node.record.model_names import run_named
from node.record.predict import Predictor
from node.record.registry import Registry
from node.record.store_care import StoreCare
from node.run.audit_views import Audits
from node.run.direction import extend_run, resume_run, stop_run
from node.run.known_run import KnownRun
from node.run.proposal import Proposals
from node.system.devices import Devices
from node.system.prometheus import prometheus_text
from node.system.views import SystemViews
from protocol.entrance.invitation import read_token
from protocol.errors import FednodeError, Refused
from protocol.keys import GroupId, NodeId, RunId
from protocol.token_text import DEVICE_LINK, kind_of
from tracker.queries.asking import answered
from tracker.tables.rows import MetricRow, iso

if TYPE_CHECKING:
    from node.node import Node

log = logging.getLogger("fednode.node")

# Watchers are told of changed things so often: a dashboard repaints twice a second, and a query costs milliseconds.
PUBLISH_INTERVAL_S = 0.3
STATUS_INTERVAL_S = 2.0
_EXPIRES_S_MAX = 366 * 86_400  # a year: an invitation is a key, and keys are renewed


class Service:
    """See node.api.service.service.NodeService, which says what every method does."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self.artifacts = Artifacts(node.record, node.disk, self._run_id, self._node_id, self._catch_up)
        self.proposals = Proposals(node, self._place, self._known)
        self.inbox = Inbox(node, self._run_id)
        self.predictor = Predictor(node)
        self.store = StoreCare(node)
        self.blobs = BlobCare(node)
        self.registry = Registry(
            node.record, node.disk, node.trainer.offload, node.now, node.hub.publish, self.blobs.mend
        )
        self.transfers = Transfers(node)
        self.data_views = DataViews(node)
        self._changed_runs: set[RunId] = set()
        self._changed_groups: set[GroupId] = set()
        self._changed_peers: set[NodeId] = set()
        self._new_metrics: list[MetricRow] = []
        self.all_logs = LogGather(node, self._run_id, self._node_id)
        self.system = SystemViews(node, self._run_id, self._node_id)
        self.curves = RunCurves(node, self._run_id, self._node_id, self._catch_up)
        self.devices = Devices(node)
        self.doctor = Doctor(node)
        self.audits = Audits(node, self._known)
        self.memberships = Memberships(node, self._place)
        self.run_list = RunList(node, self._catch_up)

    # --- the node ------------------------------------------------------------------------------------------------
    async def status(self) -> Json:
        return status_view(self._node)

    async def stop(self) -> None:
        self._node.hub.publish({"type": "bye"})
        self._node.stopping.set()

    async def peers(self) -> list[Json]:
        return peers_view(self._node)

    async def prometheus(self) -> str:
        newest = await self.run_list.page({"limit": 1000, "brief": True})
        return prometheus_text(status_view(self._node), newest["runs"], self._node.counts)

    # --- groups --------------------------------------------------------------------------------------------------
    async def groups(self) -> list[Json]:
        return [group_view(self._node, place) for place in self._node.groups.places.values()]

    async def group(self, group: str) -> Json:
        return group_view(self._node, self._place(group))

    async def create_group(self, name: str) -> Json:
        if any(place.state().name == name for place in self._node.groups.places.values()):
            raise Refused("group-exists", f"A group is called {name!r} already", remedy="choose another name")
        return group_view(self._node, await self._node.groups.create(name))

    async def invite(
        self, group: str | None, role: str, uses: int, expires_s: int, addresses: Sequence[str] = (), qr: bool = False
    ) -> Json:
        if not 0 < expires_s <= _EXPIRES_S_MAX:
            raise Refused("bad-expiry", f"An invitation cannot last {expires_s} s", remedy="give up to a year")
        place = self._place(group)
        check_in(place)
        outside = tuple(outside_address(address, self._port()) for address in addresses)
        operation, token = await self._node.groups.invite(place, role, uses, expires_s, outside, qr)
        entry = place.state().invitations[operation.hash]
        return {
            "token": token,
            "group_id": place.group,
            "group": place.state().name,
            "role": entry.role,
            "uses": entry.uses,
            "expires_at": iso(entry.expires_at),
            "invite_id": operation.hash,
            **reach_view(read_token(token).entrances),
            **({"warning": shut} if (shut := turned_away_text(place)) else {}),
        }

    def _port(self) -> int:
        """The door's: where a router forwards the same port, it need not be said."""
        listening = self._node.network.addresses()
        return host_and_port(listening[0])[1] if listening else 0

    async def join(self, token: str) -> Json:
        if kind_of(token) is DEVICE_LINK:
            member = await self._node.linker.use(token)
            identity = self._node.identity
            return {"member_id": identity.member_id, "member": member, "node_id": identity.node_id}
        place, invitation, admitter = await self._node.groups.join(token)
        state = place.state()
        us = state.member_of(self._node.identity.node_id)
        by = state.nodes.get(admitter)
        return {
            "group_id": place.group,
            "name": state.name,
            "role": us.role if us else invitation.role,
            "admitted_by": by.name if by else admitter,
        }

    def _place(self, group: str | None) -> GroupPlace:
        places = self._node.groups.places
        if group is None:
            ours = [place for place in places.values() if place.out() is None and place.revoked() is None]
            if len(ours or places) == 1:
                return next(iter(ours or places.values()))
            names = ", ".join(place.state().name for place in ours or places.values())
            if not places:
                raise NotFound(
                    "no-such-group",
                    "This node is in no group",
                    remedy="create one with fednode group create NAME, or join one with fednode join TOKEN",
                )
            raise Refused("ambiguous", f"This node is in several groups: {names}", remedy="name one with --group")
        found = id_named(group, {key: place.state().name for key, place in places.items()})
        if found is None:
            names = ", ".join(place.state().name for place in places.values()) or "none"
            raise NotFound(
                "no-such-group", f"No group is called {group!r}; there are: {names}", remedy="see fednode group list"
            )
        return places[found]

    # --- data ----------------------------------------------------------------------------------------------------
    async def data_list(self) -> list[Json]:
        await self._catch_up()
        return await self.data_views.listed()

    async def data_add(self, name: str, path: str, options: Mapping[str, Any]) -> Json:
        return await self.data_views.add(name, path, options)

    async def data_show(self, name: str) -> Json:
        return await self.data_views.show(name)

    async def data_remove(self, name: str) -> None:
        data = self._node.data_sets.get(name)
        using = self._node.runs.using(name)
        if using:
            raise Refused(
                "data-in-use",
                f"The run {using[0].name} trains on {name}, or will once it starts",
                remedy="stop the run first, or decline it while it has not started",
            )
        await self._node.data_sets.remove(name)
        self.data_views.record(data, removed=True)

    # --- runs: actions -------------------------------------------------------------------------------------------
    async def start_run(self, config: str, source: str | None, group: str | None, overrides: Mapping[str, Any]) -> Json:
        asked = Asked(config=config, source=source, group=group, overrides=overrides)
        known, taken_as = await self.proposals.propose(asked)
        return {**await self.run(known.run_id), "taken_as": list(taken_as)}

    async def accept(self, run: str, data: str | None, task: str | None = None) -> Json:
        known = self._known(run)
        if task is not None:
            await self._node.task_files.register(Path(task))
        await self._node.runs.answers.accept(known, data)
        return await self.run(known.run_id)

    async def decline(self, run: str, reason: str) -> Json:
        known = self._known(run)
        await self._node.runs.answers.decline(known, reason or "declined by the owner")
        return await self.run(known.run_id)

    async def stop_run(self, run: str, reason: str) -> Json:
        known = self._known(run)
        asked = await stop_run(self._node.runs, known, reason or "stopped by hand")
        return {**await self.run(known.run_id), "asked": asked}

    async def resume_run(self, run: str) -> Json:
        known = self._known(run)
        await self._node.retention.check_ready(known)
        await resume_run(self._node.runs, known)
        return await self.run(known.run_id)

    async def extend_run(self, run: str, rounds: int) -> Json:
        known = self._known(run)
        await self._node.retention.check_ready(known)
        await extend_run(self._node.runs, known, rounds)
        return await self.run(known.run_id)

    async def policy(self) -> list[str]:
        return list(self._node.policy.rules)

    async def set_policy(self, rules: Sequence[str]) -> list[str]:
        await self._node.policy.set(tuple(rules))
        return await self.policy()

    # --- runs: views ---------------------------------------------------------------------------------------------
    async def run(self, run: str) -> Json:
        await self._catch_up()
        run_id = await self._run_id(run)
        (view,) = await self.run_list.views(await self._node.record.query("run", run_id=run_id))
        return view

    async def rounds(self, run: str, after_round: int | None = None, limit: int = 100_000) -> list[Json]:
        await self._catch_up()
        wanted = {"run_id": await self._run_id(run), "after_round": after_round, "limit": limit}
        return await self._node.record.query("rounds", **wanted)

    async def logs(self, run: str | None, query: LogsQuery) -> LogPage:
        await self._catch_up()
        wanted = {
            "run_id": await self._run_id(run) if run else None,
            "node": query.node and await self._node_id(query.node),
            "level": query.level,
            "text": query.text,
            "limit": query.limit,
        }
        if query.after is not None:
            return LogPage.of(await self._node.record.query("logs", after=query.after, **wanted), query)
        return LogPage.of(await self._node.record.query("logs_tail", before=query.before, **wanted), query)

    async def model_file(self, run: str, round_number: int | None) -> ModelFile:
        return await self.registry.run_file(await self._run_id(run), round_number, run)

    async def sql(self, statement: str, rows_max: int) -> tuple[Sequence[str], Sequence[Sequence[Any]], bool]:
        await self._catch_up()
        return await self._node.record.sql(statement, rows_max)

    async def _catch_up(self) -> None:
        """What was recorded just now is to be seen too; a disk that takes nothing keeps nobody from reading."""
        with suppress(FednodeError):
            await self._node.record.flush()

    # --- names ---------------------------------------------------------------------------------------------------
    def _known(self, run: str) -> KnownRun:
        found = self._known_named(run)
        if found is None:
            raise NotFound("no-such-run", f"No run is called {run!r}", remedy="see fednode run list")
        return self._node.runs.known[found]

    def _known_named(self, run: str) -> RunId | None:
        return id_named(run, {run_id: known.name for run_id, known in self._node.runs.known.items()})

    async def _run_id(self, run: str) -> str:
        """Of a run that this node knows, or one that it only has a record of. Raises NotFound."""
        if found := self._known_named(run):
            return found
        if recorded := await answered(run_named(run), self._node.record.query):
            return str(recorded["run_id"])
        raise NotFound("no-such-run", f"No run is called {run!r}", remedy="see fednode run list")

    async def _node_id(self, node: str) -> str:
        places = self._node.groups.places.values()
        return (
            id_named(node, {key: entry.name for place in places for key, entry in place.state().nodes.items()}) or node
        )

    # --- events --------------------------------------------------------------------------------------------------
    def events(self) -> AsyncIterator[list[Json]]:
        return self._node.hub.watch(self._snapshot)

    async def _snapshot(self) -> Json:
        runs, runs_total = await self.run_list.told_first()
        return {
            "type": "snapshot",
            "status": status_view(self._node),
            "groups": await self.groups(),
            "peers": peers_view(self._node),
            "runs": runs,
            "runs_total": runs_total,
            "inbox": await self.inbox.items(),
            "transfers": self.transfers.views(),
        }

    def mark_run(self, run: RunId) -> None:
        if self._node.hub.is_watched:
            self._changed_runs.add(run)

    def mark_group(self, group: GroupId) -> None:
        if self._node.hub.is_watched:
            self._changed_groups.add(group)

    def mark_peer(self, peer: NodeId) -> None:
        if self._node.hub.is_watched:
            self._changed_peers.add(peer)

    def mark_metrics(self, rows: Sequence[MetricRow]) -> None:
        if self._node.hub.is_watched:
            self._new_metrics += rows

    async def publish_changes(self) -> None:
        """Tell the watchers what has changed, a few times a second; without watchers this costs nothing."""
        status_at = 0.0
        while True:
            if not self._node.hub.is_watched:
                self._forget_changes()
                await self._node.hub.watched()
            await trio.sleep(PUBLISH_INTERVAL_S)
            try:
                await self._publish()
                if trio.current_time() >= status_at:
                    status_at = trio.current_time() + STATUS_INTERVAL_S
                    self._node.hub.publish({"type": "status", "status": status_view(self._node)})
                    self._changed_peers |= self._node.groups.take_changes()
            except FednodeError as error:
                self._node.hub.publish({"type": "note", "text": error.what})
            except Exception:  # a view that fails must not end the node
                log.exception("the watchers could not be told of a change")

    async def _publish(self) -> None:
        runs, self._changed_runs = self._changed_runs, set()
        groups, self._changed_groups = self._changed_groups, set()
        peers, self._changed_peers = self._changed_peers, set()
        metrics, self._new_metrics = self._new_metrics, []
        hub = self._node.hub
        if metrics:
            hub.publish({"type": "metrics", "metrics": [metric_view(row) for row in metrics]})
        for group in sorted(groups):
            hub.publish({"type": "group", "group": group_view(self._node, self._node.groups.places[group])})
        for peer in sorted(peers):
            hub.publish({"type": "peer", "peer": peer_view(self._node, peer)})
        for run in sorted(runs):
            hub.publish({"type": "run", "run": await self.run(run)})
        self.transfers.publish()
        if runs or groups:
            self.inbox.mark()
        await self.inbox.publish()

    def _forget_changes(self) -> None:
        self._changed_runs.clear()
        self._changed_groups.clear()
        self._changed_peers.clear()
        self._new_metrics.clear()
