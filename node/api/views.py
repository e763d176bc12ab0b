"""What people and programs are shown of a node, in the shapes of docs/api.md."""

from typing import TYPE_CHECKING, Any

import trio

from node.membership.group_place import GroupPlace
from node.membership.memberships import (
    former_views,
    invitation_state,
    member_views,
    out_view,
    revoked_views,
    turned_away_text,
)
from node.membership.operation_words import names_of
from node.run.known_run import KnownRun
from protocol.group.presence import Presence, stale_after_s
from protocol.keys import NodeId
from tracker.tables.rows import LogRow, MetricRow, iso

if TYPE_CHECKING:
    from node.node import Node

Json = dict[str, Any]
ROSTER_SHOWN_MAX = 4096


TROUBLES_SHOWN_MAX = 20  # more of a kind say no more than these


def status_view(node: "Node") -> Json:
    counters = node.network.counters
    return {
        "node_id": node.identity.node_id,
        "name": node.identity.name,
        "member_id": node.identity.member_id,
        "version": node.version,
        "home": node.home,
        "pid": node.pid,
        "started_at": iso(node.started_at),
        "uptime_s": round(node.now() - node.started_at, 3),
        "addresses": node.network.addresses(),
        "entrance_addresses": node.network.entrance_addresses(),
        "announced": list(node.groups.announcer.outside),
        "local_network": _local_network(node),
        "groups": [
            {
                "group_id": place.group,
                "name": place.state().name,
                "out": out_view(place),
                "turned_away": turned_away_text(place),
            }
            for place in node.groups.places.values()
        ],
        "runs_active": len(node.runs.active()),
        "peers_connected": len(node.groups.connected),
        "bytes_sent": counters.bytes_sent,
        "bytes_received": counters.bytes_received,
        "limits": node.limits.view(),
        "stranger_bytes": counters.stranger_bytes,
        "refused_at_door": counters.refused_at_door,
        "holds_member_key": node.identity.keys.member is not None,
        "trouble": node.siblings.trouble or node.copies.trouble or node.record.trouble,
        "peers_in_trouble": _peers_in_trouble(node),
    }


def _peers_in_trouble(node: "Node") -> list[Json]:
    """The nodes of our groups with which nothing goes, and why: refused for a while, or of another version."""
    names = {peer: entry.name for place in node.groups.places.values() for peer, entry in place.state().nodes.items()}
    found = [(peer, name, node.network.trouble(peer)) for peer, name in names.items()]
    told = [{"node_id": peer, "name": name, "trouble": trouble} for peer, name, trouble in found if trouble]
    return told[:TROUBLES_SHOWN_MAX]


def _local_network(node: "Node") -> Json:
    """Whether the node is told of, and listens, on the local network, and what keeps it from it."""
    there = node.local_network
    return {"on": there is not None, "trouble": there.trouble if there else ""}


def group_view(node: "Node", place: GroupPlace) -> Json:
    state = place.state()
    us = state.member_of(node.identity.node_id)
    first, names = next(iter(place.log)), names_of(place.log)
    return {
        "group_id": place.group,
        "name": state.name,
        "created_at": iso(first.body.claimed_at),
        "role": us.role if us else "",
        "out": out_view(place),
        "turned_away": turned_away_text(place),
        "operations": len(place.log),
        "heads": list(place.log.heads()),
        "members": member_views(place),
        "invitations": [
            {
                "invite_id": invite_id,
                "role": entry.role,
                "uses": entry.uses,
                "used": entry.used,
                "expires_at": iso(entry.expires_at),
                "revoked": entry.revoked,
                "state": invitation_state(entry, node.now()),
                "by": entry.by,
                "by_name": names.of(entry.by),
            }
            for invite_id, entry in state.invitations.items()
        ],
        "former": former_views(place),
        "revoked": revoked_views(place),
    }


def peers_view(node: "Node") -> list[Json]:
    """Ourselves first, then every node of our groups, by name."""
    others = {entry: None for place in node.groups.places.values() for entry in place.state().nodes}
    others.pop(node.identity.node_id, None)
    peers = [peer_view(node, peer) for peer in others]
    return [peer_view(node, node.identity.node_id), *sorted(peers, key=lambda peer: (peer["name"], peer["node_id"]))]


def peer_view(node: "Node", peer: NodeId) -> Json:
    is_self = peer == node.identity.node_id
    places = [place for place in node.groups.places.values() if place.state().admits(peer)]
    entry = places[0].state().nodes[peer] if places else None
    heard = [found for place in places if (found := place.book.last(peer)) is not None]
    newest = max(heard, key=lambda found: found.heard_at, default=None)
    presence = newest.presence if newest else None
    known = node.groups.neighbours.addresses.of(peer)
    capacity = node.capacity() if is_self else presence.capacity if presence else None
    runs = [run.run_id for run in node.runs.active()] if is_self else _runs_of(node, peer, presence)
    if is_self:
        last_seen: str | None = iso(node.now())
    else:
        last_seen = iso(node.now() - (trio.current_time() - newest.heard_at)) if newest else None
    return {
        "node_id": peer,
        "name": node.identity.name if is_self else entry.name if entry else "",
        "member_id": node.identity.member_id if is_self else entry.member_id if entry else "",
        "self": is_self,
        "connected": is_self or peer in node.groups.connected,
        "here": is_here(node, peer),
        "last_seen": last_seen,
        "addresses": node.network.addresses() if is_self else list(known.addresses) if known else [],
        "version": node.version if is_self else presence.version if presence else "",
        "groups": [place.group for place in places],
        "runs": runs,
        "capacity": capacity.model_dump(mode="json") if capacity else {},
        "data_sets": len(node.data_sets.all()) if is_self else presence.data_sets if presence else 0,
        "link": node.peer_links.view(peer),
        "trouble": node.network.trouble(peer),
    }


def _runs_of(node: "Node", peer: NodeId, presence: Presence | None) -> list[str]:
    """What it told of itself some time ago, put right by what we know of the runs that we are in too."""
    ours = {run.run_id: run for run in node.runs.active() if run.ledger is not None and is_here(node, peer)}
    known = node.runs.known
    told = [run for run in presence.runs if run not in known or not known[run].is_over] if presence else []
    shared = [run_id for run_id, run in ours.items() if run.ledger is not None and peer in run.ledger.newest.roster]
    return list(dict.fromkeys([*told, *shared]))


def is_here(node: "Node", peer: NodeId) -> bool:
    """Whether `peer` can be reckoned with: it is connected, or where no connection is kept it was heard of lately."""
    if peer == node.identity.node_id or peer in node.groups.connected:
        return True
    if peer in node.groups.neighbours.wanted():
        return False
    now = trio.current_time()
    heard = ((place, place.book.last(peer)) for place in node.groups.places.values() if place.state().admits(peer))
    return any(last and now - last.heard_at < stale_after_s(len(place.state().nodes)) for place, last in heard)


def run_view(row: Json, known: KnownRun | None) -> Json:
    """A row of the record, with its participants if it has them, and what is live and not recorded."""
    view = dict(row)
    if "participants" in row:
        view["participants"] = row["participants"][:ROSTER_SHOWN_MAX]
        for entry in view["participants"]:
            entry.pop("run_id", None)  # the run says it
    live = known.chronicle.live if known else None
    view["note"] = "; ".join(filter(None, (_told_to_stop(known, row["state"]), live.note if live else "")))
    view["bytes_sent"] = live.bytes_sent if live else 0
    view["bytes_received"] = live.bytes_received if live else 0
    deposed = known.driver.machine.context.deposed if known and known.driver else {}
    view["deposed"] = [{"node_id": node, "reason": reason} for node, reason in deposed.items()]
    if known is not None and known.driver is not None and not known.driver.machine.ledger.has_ended:
        aggregator = known.driver.machine.election.aggregator
        names = known.place.state().nodes
        view["aggregator"] = aggregator or ""
        view["aggregator_name"] = names[aggregator].name if aggregator and aggregator in names else ""
        view["term"] = known.driver.machine.election.term
    return view


def _told_to_stop(known: KnownRun | None, state: str) -> str:
    """What the group's log asks of a run that goes on: no checkpoint says so yet."""
    stop = known.entry.stop if known is not None else None
    if known is None or stop is None or state != "RUNNING":
        return ""
    by = known.place.state().nodes.get(stop.by)
    reason = f": {stop.reason}" if stop.reason else ""
    return f"told to stop by {by.name if by else stop.by}{reason}; it ends with the next checkpoint"


def log_view(row: LogRow) -> Json:
    return {
        "seq": row.sequence,
        "time": iso(row.time),
        "level": row.level,
        "node_id": row.node_id,
        "run_id": row.run_id,
        "logger": row.logger,
        "message": row.message,
    }


def metric_view(row: MetricRow) -> Json:
    return {
        "run_id": row.run_id,
        "node_id": row.node_id,
        "scope": row.scope,
        "split": row.split,
        "key": row.key,
        "class": row.class_,
        "round": row.round,
        "epoch": row.epoch,
        "step": row.step,
        "value": row.value,
        "time": iso(row.time),
        "samples": row.samples,
    }
