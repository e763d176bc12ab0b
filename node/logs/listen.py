"""One node's lines of a run: our own out of the record, or another's, asked for again where it went away."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from node.api.service.service import AllLogsQuery, Json
from node.logs.share import (
    AFTER_END_S,
    ANSWER_BYTES_MAX,
    LINES_MAX,
    LINES_PER_S,
    LOGS_QUESTION,
    POLL_S,
    LogsWanted,
    SharedLine,
    SharedLines,
    has_ended,
    own_lines,
)
from node.run.known_run import KnownRun
from node.training.worker_output import Bucket
from protocol.errors import FednodeError, Refused
from protocol.keys import NodeId
from protocol.limits import FRAME_BYTES_MAX
from protocol.wire import pack, unpack

if TYPE_CHECKING:
    from node.node import Node

ASK_AGAIN_S = 15.0  # a node that could not be reached may be back
# Of one answer while it goes on, before it is asked for anew: an hour of the most that an honest node says.
FOLLOW_BYTES_MAX = 1024**3


@dataclass(frozen=True, slots=True)
class Heard:
    """From one node: lines, or why there are none. `is_through`: the newest are there, or never will be; `is_over`:
    nothing more is to come."""

    node: NodeId
    lines: tuple[Json, ...] = ()
    trouble: str = ""
    is_through: bool = True
    is_over: bool = False


Hear = Callable[[Heard], Awaitable[None]]


async def listen(node: "Node", known: KnownRun, peer: NodeId, query: AllLogsQuery, hear: Hear) -> None:
    """Hand on to `hear` what `peer` says, which may be ourselves; the last of it `is_over`."""
    trouble = ""
    try:
        if peer == node.identity.node_id:
            await _listen_to_ourselves(node, known, query, hear)
        else:
            await _Other(node, known, peer, query, hear).listen()
    except FednodeError as error:
        trouble = error.what.removeprefix(f"{peer} says: ")  # whose word it is stands beside it
    await hear(Heard(peer, trouble=trouble, is_over=True))


async def _listen_to_ourselves(node: "Node", known: KnownRun, query: AllLogsQuery, hear: Hear) -> None:
    """As it stands in the record: it is our owner who reads."""
    me, level, after, said_at = node.identity.node_id, query.level or "DEBUG", None, trio.current_time()
    with suppress(FednodeError):  # a disk that takes nothing keeps nobody from reading
        await node.record.flush()
    while True:
        rows = await own_lines(node, known.run_id, level, after, query.limit)
        if rows or after is None:
            after, said_at = rows[-1]["seq"] if rows else 0, trio.current_time()
            await hear(Heard(me, tuple({**row, "node_name": node.identity.name} for row in rows)))
        if not query.follow or (has_ended(known) and trio.current_time() - said_at > AFTER_END_S):
            return
        await trio.sleep(POLL_S)


class _Other:
    """Another node: each of its lines once, and not too many of them."""

    def __init__(self, node: "Node", known: KnownRun, peer: NodeId, query: AllLogsQuery, hear: Hear) -> None:
        self._node = node
        self._known = known
        self._peer = peer
        self._query = query
        self._hear = hear
        self._after: int | None = None
        self._shares_part = False  # and that was said
        self._may_say = Bucket(2 * LINES_MAX, 2 * LINES_PER_S, trio.current_time())
        entry = known.place.state().nodes.get(peer)
        self._name = entry.name if entry else ""

    async def listen(self) -> None:
        """Raises FednodeError for why it shares nothing, or is not there and need not be asked again."""
        while True:
            try:
                await self._take_answer()
                return
            except Refused:
                raise
            except FednodeError as error:
                if not self._query.follow or has_ended(self._known):
                    raise
                await self._hear(Heard(self._peer, trouble=error.what))
            await trio.sleep(ASK_AGAIN_S)

    async def _take_answer(self) -> None:
        wanted = LogsWanted(
            run=self._known.run_id,
            level=self._query.level or "DEBUG",
            after=self._after,
            limit=min(self._query.limit, LINES_MAX) if self._after is None else LINES_MAX,
            follow=self._query.follow,
        )
        bytes_max = FOLLOW_BYTES_MAX if self._query.follow else 4 * ANSWER_BYTES_MAX
        answer = self._node.questions.ask(self._peer, LOGS_QUESTION, pack(wanted), bytes_max=bytes_max)
        async with aclosing(answer) as frames:
            async for frame in frames:
                told = unpack(SharedLines, frame, FRAME_BYTES_MAX)
                new = [line for line in told.lines if self._after is None or line.sequence > self._after]
                kept = new[: self._may_say.take(len(new), trio.current_time())]
                self._after = max([self._after or 0, *(line.sequence for line in new)])
                trouble = "" if len(kept) == len(new) else "It says too much: some of its lines are left out"
                if told.is_part and not (trouble or self._shares_part):
                    self._shares_part, trouble = True, "Its owner shares errors alone"
                await self._hear(Heard(self._peer, tuple(map(self._row, kept)), trouble, told.is_through))

    def _row(self, line: SharedLine) -> Json:
        return {
            "seq": line.sequence,
            "time": line.time,
            "level": line.level,
            "node_id": self._peer,
            "run_id": self._known.run_id,
            "logger": line.logger,
            "message": line.text,
            "node_name": self._name,
        }
