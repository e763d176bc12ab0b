"""A run's log of all its nodes: our own lines and what the others share (node.logs.share), in the order of their times.

Each node is listened to by itself, and none holds up the others. What comes is checked, shown and not kept. Of a node
that shares nothing the reason is told once.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from node.api.service.service import AllLogsQuery, Json, LogPolicy, NotFound
from node.logs.listen import Heard, listen
from node.logs.share import LINES_MAX, POLL_S, has_ended
from node.run.known_run import KnownRun
from protocol.keys import NodeId, RunId

if TYPE_CHECKING:
    from node.node import Node

ANSWER_DEADLINE_S = 10.0  # for a node's first lines; a dial alone may take as long where a firewall swallows it
TOGETHER_S = 0.5  # lines that come within it are put in order
END_PATIENCE_S = 10.0  # for the others' last lines once the run is over here
NODES_MAX = 100  # asked at once, each over a stream; nobody reads more, and --node names one
HEARD_WAITING_MAX = 8  # frames of lines; while they wait the nodes that send more wait too

IdOf = Callable[[str], Awaitable[str]]  # of what a person calls a run, or a node
Send = Callable[[list[Json]], Awaitable[None]]  # events for whoever asked, as docs/api.md has them


class LogGather:
    """See node.api.service.service.LogService, which says what every method does."""

    def __init__(self, node: "Node", run_id: IdOf, node_id: IdOf) -> None:
        self._node = node
        self._run_id = run_id
        self._node_id = node_id

    async def policy(self) -> str:
        return self._node.policy.logs

    async def set_policy(self, policy: LogPolicy) -> str:
        await self._node.policy.set_logs(policy)
        return self._node.policy.logs

    async def prepare(self, run: str, query: AllLogsQuery) -> "Gathering":
        known = self._node.runs.known.get(RunId(await self._run_id(run)))
        if known is None:
            raise NotFound("no-such-run", f"No run is called {run!r}", remedy="see fednode run list")
        me = self._node.identity.node_id
        nodes = dict.fromkeys([me, *(known.ledger.roster() if known.ledger else ())])
        if query.node is not None:
            wanted = NodeId(await self._node_id(query.node))
            if wanted not in nodes:
                raise NotFound(
                    "no-such-node", f"{query.node!r} takes no part in {known.name}", remedy="see fednode run show"
                )
            nodes = {wanted: None}
        return Gathering(self._node, known, tuple(nodes), query)


class Gathering:
    """The lines of some nodes of one run."""

    def __init__(self, node: "Node", known: KnownRun, nodes: tuple[NodeId, ...], query: AllLogsQuery) -> None:
        self._node = node
        self._known = known
        self._nodes = nodes
        self._query = query
        self._hear, self._heard = trio.open_memory_channel[Heard](HEARD_WAITING_MAX)
        self._going = set(nodes[:NODES_MAX])
        self._told: dict[NodeId, str] = {}  # what troubles a node, as it was told last

    async def run(self, send: Send) -> None:
        """First the newest lines of all, in order; then, if that is wanted, those that come, until the run is over."""
        async with trio.open_nursery() as nursery:
            for peer in self._nodes[:NODES_MAX]:
                nursery.start_soon(listen, self._node, self._known, peer, self._query, self._hear.send)
            await send(await self._newest())
            heard_at = trio.current_time()
            while self._query.follow and self._going:
                if events := await self._next():
                    heard_at = trio.current_time()
                    await send(events)
                elif has_ended(self._known) and trio.current_time() - heard_at > END_PATIENCE_S:
                    break
            nursery.cancel_scope.cancel()

    async def _newest(self) -> list[Json]:
        """The newest lines of all nodes that answer in time; and who does not, or shares none."""
        waited_for, lines, events = set(self._going), list[Json](), list[Json]()
        with trio.move_on_after(ANSWER_DEADLINE_S):
            while waited_for:
                heard = await self._heard.receive()
                if heard.is_through:
                    waited_for.discard(heard.node)
                lines += heard.lines
                if len(lines) > 2 * self._query.limit:
                    lines = _in_order(lines)[-self._query.limit :]
                events += self._trouble_of(heard)
        for peer in self._nodes:
            if peer in waited_for:
                events += self._trouble_of(Heard(peer, trouble=f"It has not answered within {ANSWER_DEADLINE_S:g} s"))
            elif peer in self._nodes[NODES_MAX:]:
                events += self._trouble_of(Heard(peer, trouble=f"It was not asked, as {NODES_MAX} were; name it"))
        return [{"type": "logs", "logs": _in_order(lines)[-self._query.limit :]}, *events]

    async def _next(self) -> list[Json]:
        """What comes now, in order; nothing when nothing does."""
        lines, events = list[Json](), list[Json]()
        with trio.move_on_after(POLL_S) as patience:
            while len(lines) < LINES_MAX:
                heard = await self._heard.receive()
                patience.deadline = min(patience.deadline, trio.current_time() + TOGETHER_S)
                lines += heard.lines
                events += self._trouble_of(heard)
        return ([{"type": "logs", "logs": _in_order(lines)}] if lines else []) + events

    def _trouble_of(self, heard: Heard) -> list[Json]:
        """The event of a node's trouble, if it is news. Who is over is not waited for any more."""
        if heard.is_over:
            self._going.discard(heard.node)
        if not heard.trouble or self._told.get(heard.node) == heard.trouble:
            return []
        self._told[heard.node] = heard.trouble
        entry = self._known.place.state().nodes.get(heard.node)
        name = entry.name if entry else ""
        return [{"type": "node", "node_id": heard.node, "node_name": name, "reason": heard.trouble}]


def _in_order(lines: list[Json]) -> list[Json]:
    """By their nodes' clocks."""
    return sorted(lines, key=lambda line: (line["time"], line["node_id"], line["seq"]))
