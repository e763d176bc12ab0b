"""Everything that waits for this node's owner, in one list: what must be answered, and what should be looked at.

The list is worked out from the node's state and its record; nothing but what has been seen is kept. It is made anew
when somebody asks, and, while somebody watches, soon after something has changed.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio

from node.api.inbox.gone import Gone, gone, gone_items, our_entry
from node.api.inbox.items import (
    DISK_LOW_BYTES,
    Joiner,
    Noted,
    Proposed,
    disk_item,
    joiner_items,
    joiners,
    paused_items,
    proposal_items,
    trouble_item,
    troubles,
)
from node.api.inbox.proposal import proposal_view
from node.api.inbox.seen import SeenItems
from node.api.service.service import Json, NotFound
from node.membership.group_place import GroupPlace
from node.run.known_run import KnownRun
from protocol.errors import FednodeError, Refused
from protocol.keys import GroupId, NodeId
from protocol.manifest.words import dotted, how_words
from tracker.queries.inbox import KIND_MAX, LOOK_BACK_S, failed_item, lie_item, newest_first, refused_item
from tracker.tables.rows import iso

if TYPE_CHECKING:
    from node.node import Node

ITEMS_MAX = 200  # of all kinds: more than anybody works through, and a few hundred kB at the most
LOOK_EVERY_S = 1.0  # while things change; a dashboard repaints twice a second, and nothing here is that urgent
LOOK_AGAIN_S = 30.0  # while nothing does: the disk fills, and pauses grow long, without telling anybody
RECORD_EVERY_S = 10.0  # what takes queries; a run that commits ten rounds a second does not make ten of them


class Inbox:
    """One node's. `mark` when something has changed; `publish` now and then while somebody watches.

    Args:
        run_id_of: the id of a run by what people call it; raises NotFound.
    """

    def __init__(self, node: "Node", run_id_of: Callable[[str], Awaitable[str]]) -> None:
        self._node = node
        self._run_id_of = run_id_of
        self._seen = SeenItems(node.disk)
        self._marked = True
        self._looked_at = float("-inf")
        self._told: list[Json] | None = None
        self._recorded: list[Json] = []
        self._recorded_at = float("-inf")
        self._members: dict[GroupId, tuple[int, list[Joiner], list[Gone]]] = {}
        self._came: dict[GroupId, float] = {}
        self._troubled_since: dict[str, float] = {}

    # --- what is asked ---------------------------------------------------------------------------------------------
    async def items(self) -> list[Json]:
        """What must be answered, then what nobody has looked at yet, each the newest first."""
        with suppress(FednodeError):  # a disk that takes nothing keeps nobody from reading
            await self._node.record.flush()
        self._recorded_at = float("-inf")
        return await self._items()

    async def seen(self, item_id: str) -> None:
        """Somebody has looked at it; an unambiguous beginning of its id does. Raises Refused for what needs an
        answer."""
        items = await self._items()
        found = [each for each in items if each["id"] == item_id] or [
            each for each in items if each["id"].startswith(item_id)
        ]
        if len(found) != 1:
            which = f"{len(found)} items begin with {item_id!r}" if found else f"The inbox has no item {item_id!r}"
            raise NotFound("no-such-item", which, remedy="see fednode inbox list")
        if found[0]["needs"] == "answer":
            name = found[0]["run_id"][:12]
            raise Refused(
                "needs-answer",
                f"{found[0]['title']}: looking at it is not enough",
                remedy=f"fednode run accept {name}, or fednode run decline {name}",
            )
        await self._seen.add(found[0]["id"])
        self.mark()

    async def proposal(self, run: str) -> Json:
        """What a run asks of us. Raises NotFound."""
        with suppress(FednodeError):
            await self._node.record.flush()
        return await proposal_view(self._node, await self._run_id_of(run))

    # --- what is told ----------------------------------------------------------------------------------------------
    def mark(self) -> None:
        """Something has changed that may be in here."""
        self._marked = True

    async def publish(self) -> None:
        """Tell those who watch when the list is another than it was."""
        quiet = trio.current_time() - self._looked_at
        if quiet < (LOOK_EVERY_S if self._marked else LOOK_AGAIN_S):
            return
        self._marked, self._looked_at = False, trio.current_time()
        items = await self._items()
        if items != self._told:
            self._told = items
            self._node.hub.publish({"type": "inbox", "inbox": items})

    async def _items(self) -> list[Json]:
        seen = await self._seen.load()
        answers = proposal_items([*self._proposed()])
        looks = [*self._troubles(), *self._paused(), *self._came_and_went(), *await self._record_items()]
        open_ = [each for each in newest_first([*answers, *looks]) if each["id"] not in seen]
        return sorted(open_, key=lambda each: each["needs"] != "answer")[:ITEMS_MAX]

    # --- where it comes from ---------------------------------------------------------------------------------------
    def _proposed(self) -> Iterator[Proposed]:
        for known in self._node.runs.known.values():
            if known.decision.decision != "undecided" or not self._can_be_accepted(known):
                continue
            state, entry, manifest = known.place.state(), known.entry, known.manifest
            member = state.members.get(entry.proposer_member)
            yield Proposed(
                run_id=known.run_id,
                name=known.name,
                group_id=known.place.group,
                group=state.name,
                proposer=self._name_in(known.place, entry.proposer),
                member_id=entry.proposer_member,
                member=member.name if member else "",
                task=manifest.task.name or manifest.task.file or "",
                task_file=manifest.task.file is not None,
                data=manifest.data.name,
                how=how_words(dotted(manifest.model_dump())),
                at=float(entry.proposed_at),
            )

    def _can_be_accepted(self, known: KnownRun) -> bool:
        """Whether the run is still to begin, or goes on as far as we know.

        One of before we came in, which may be over for long, is asked for once its nodes have told of a round."""
        if known.is_over or known.entry.stop is not None:
            return False
        if known.entry.start is None:
            return known.place.admits(known.entry.proposer)
        heard = known.ledger is not None and known.ledger.committed_round > 0
        return heard or known.entry.proposed_at >= self._came_at(known.place)

    def _came_at(self, place: GroupPlace) -> float:
        """When we came into the group, seconds. It does not change, and finding it takes the whole log."""
        if place.group not in self._came:
            entry = our_entry(place.log, place.state(), self._node.identity.node_id)
            if entry is None:
                return float("inf")
            self._came[place.group] = entry[1]
        return self._came[place.group]

    def _paused(self) -> list[Json]:
        noted = [
            Noted(
                run_id=known.run_id,
                name=known.name,
                group_id=known.place.group,
                note=known.chronicle.live.note,
                at=known.chronicle.live.noted_at,
            )
            for known in self._node.runs.known.values()
            if self._is_ours(known) and not known.is_over
        ]
        return paused_items(noted, self._node.now())[:KIND_MAX]

    def _came_and_went(self) -> Iterator[Json]:
        """Who came into our groups and who is out of them. A log is read when it has grown, and not before."""
        me, now = self._node.identity.node_id, self._node.now()
        for group, place in self._node.groups.places.items():
            known, state = self._members.get(group), place.state()
            if known is None or known[0] != len(place.log):
                known = (len(place.log), joiners(place.log, state, me), gone(place.log, state, me))
                self._members[group] = known
            yield from joiner_items(known[1], group, state.name, now)
            yield from gone_items(known[2], group, state.name, now)

    def _troubles(self) -> list[Json]:
        """What this node cannot do now. What has ended and comes back is news again."""
        node, now = self._node, self._node.now()
        free = node.capacity().disk_free_bytes
        found = troubles(node.record.trouble, node.groups.places.values())
        names = {"disk"} if free < DISK_LOW_BYTES else set()
        since = {name: self._troubled_since.get(name, now) for name in names | {each.title for each in found}}
        self._troubled_since = since
        items = [trouble_item(each, since[each.title]) for each in found]
        return [disk_item(free, node.home, since["disk"]), *items] if names else items

    async def _record_items(self) -> list[Json]:
        if trio.current_time() - self._recorded_at >= RECORD_EVERY_S:
            self._recorded_at = trio.current_time()
            with suppress(FednodeError):  # what cannot be read now stays as it was; why is another item
                self._recorded = [*await self._refused(), *await self._failed(), *await self._lied()]
        return self._recorded

    async def _refused(self) -> list[Json]:
        me, since = self._node.identity.node_id, iso(self._node.now() - LOOK_BACK_S)
        rows = await self._node.record.query("refused_updates", concerns=me, since=since, limit=KIND_MAX)
        return [refused_item(row, me) for row in rows]

    async def _failed(self) -> list[Json]:
        me, since = self._node.identity.node_id, iso(self._node.now() - LOOK_BACK_S)
        rows = await self._node.record.query("failed_runs", node=me, ours=me, since=since, limit=KIND_MAX)
        whole = {row["run_id"] for row in rows if not row["node_id"]}
        return [failed_item(row, me) for row in rows if not row["node_id"] or row["run_id"] not in whole]

    async def _lied(self) -> list[Json]:
        """Who was deposed stands in the machines; when, in the log, as long as that is kept."""
        deposed = [
            (known, node, what)
            for known in self._node.runs.known.values()
            if known.driver is not None
            for node, what in known.driver.machine.context.deposed.items()
        ][:KIND_MAX]
        if not deposed:
            return []
        told = await self._node.record.query("lies")
        items = []
        for known, node, what in deposed:
            who = self._name_in(known.place, node)
            lines = [row["time"] for row in told if row["run_id"] == known.run_id and f"{who} lied" in row["message"]]
            place: dict[str, Any] = {"node": node, "group": known.place.group}
            items.append(lie_item(known.run_id, known.name, who, what, time=max(lines, default=None), **place))
        return items

    def _is_ours(self, known: KnownRun) -> bool:
        return known.decision.decision == "accepted" or known.entry.proposer == self._node.identity.node_id

    def _name_in(self, place: GroupPlace, node: NodeId) -> str:
        entry = place.state().nodes.get(node)
        return entry.name if entry else node[-8:]
