"""This node's lines about a run, for others in the run: as far as the owner's policy goes, and redacted always.

Whoever takes part in a run, has proposed it, or is an admin of its group may ask; observers read metrics alone. Nothing
but the lines of that one run is given, never those of other runs or of the node itself.
"""

import os
import platform
from collections.abc import AsyncGenerator, Iterable, Iterator
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import trio
from pydantic import Field

from node.api.service.service import Json, Level
from node.logs.redact import CHARACTERS_MAX, redact
from node.run.known_run import KnownRun
from node.training.worker_output import ReadingSpeed
from protocol.errors import Refused
from protocol.keys import NodeId, RunId
from protocol.run.checkpoint import HexHash
from protocol.wire import Wire, pack, unpack

if TYPE_CHECKING:
    from node.node import Node

LOGS_QUESTION = "logs"
LINES_MAX = 5000  # of one answer's beginning: what a person scrolls through; redacting them takes half a CPU second
LINE_CHARACTERS_MAX = CHARACTERS_MAX  # as the record has a traceback; what a line is cut to before it is redacted
FRAME_LINES_MAX = 100
FRAME_CHARACTERS_MAX = 100_000  # so that a frame comes within a second or two, whatever its asker has asked for before
ANSWER_CHARACTERS_MAX = 2_000_000  # of an answer's beginning, four times what 5,000 lines have; the newest are given
ANSWER_BYTES_MAX = 8 * 1024 * 1024  # of the same, at four bytes a character
# Of what is redacted for one member, over all its nodes and questions. A character costs half a CPU microsecond, and
# two where it is made to: one answer whole at once, and beyond it a fifth of a core at most, which passes all that a
# task may say for long.
MEMBER_CHARACTERS_BURST = ANSWER_CHARACTERS_MAX
MEMBER_CHARACTERS_PER_S = 100_000
MEMBERS_KNOWN_MAX = 1000  # whose use is remembered: of more, the one that asked first begins anew
LINES_PER_S = 50.0  # while it goes on: twice what a task may say for long (node.training.worker_output)
BYTES_PER_S = 256 * 1024  # likewise: a heartbeat beside it is not held up on a slow line
POLL_S = 1.0  # between two looks at the record, which itself is written every half second
ALIVE_S = 5.0  # without news: an empty frame, long before the asker gives up (node.network.questions)
AFTER_END_S = 3.0  # for the last lines of a run that has ended: the record is behind by half a second and a look
OPTION_DIGITS_MIN = 3  # of a number among a data set's options: shorter ones stand everywhere
_REQUEST_BYTES_MAX = 1024
_COMMON_NAMES = frozenset({"root", "user", "admin", "localhost"})  # of users and machines: these say nothing

LEVELS: tuple[Level, ...] = get_args(Level)
Sequence = Annotated[int, Field(ge=0, le=2**62)]


class LogsWanted(Wire):
    """Lines of `level` and above: those after number `after`, or without it the newest `limit`; `follow`: and all
    that come."""

    run: HexHash
    level: Level
    after: Sequence | None
    limit: Annotated[int, Field(ge=1, le=LINES_MAX)]
    follow: bool


class SharedLine(Wire):
    """`time` as ISO 8601 in UTC, of one length: such times sort as texts."""

    sequence: Sequence
    time: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")]
    level: Level
    logger: Annotated[str, Field(max_length=80)]
    text: Annotated[str, Field(max_length=LINE_CHARACTERS_MAX)]


class SharedLines(Wire):
    """The next lines, in order; none as a sign of life. `is_through`: what was there when the question came is told;
    `is_part`: the owner shares errors alone, and more was asked for."""

    lines: Annotated[tuple[SharedLine, ...], Field(max_length=FRAME_LINES_MAX)]
    is_through: bool
    is_part: bool


class LogShare:
    """Answers questions of kind LOGS_QUESTION."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._redacting: dict[str, ReadingSpeed] = {}  # how much of it there is for each member

    async def answer(self, peer: NodeId, request: bytes) -> AsyncGenerator[bytes, None]:
        """Frames of `SharedLines`. Raises Refused when the peer may not see them, be it that this changes meanwhile."""
        wanted = unpack(LogsWanted, request, _REQUEST_BYTES_MAX)
        known = self._shown_to(peer, RunId(wanted.run))
        rows = _newest(await own_lines(self._node, known.run_id, self._level(wanted), wanted.after, wanted.limit))
        async for frame in self._frames(peer, known, wanted, rows):
            yield frame
        if wanted.follow:
            after = rows[-1]["seq"] if rows else wanted.after or 0
            async for frame in self._go_on(peer, known, wanted, after):
                yield frame

    async def _go_on(
        self, peer: NodeId, known: KnownRun, wanted: LogsWanted, after: int
    ) -> AsyncGenerator[bytes, None]:
        """What is said from now on, no faster than is allowed: what is held up comes later, from the record."""
        lines = ReadingSpeed(int(LINES_PER_S), trio.current_time())
        size = ReadingSpeed(BYTES_PER_S, trio.current_time())
        said_at = alive_at = trio.current_time()
        while not has_ended(known) or trio.current_time() - said_at < AFTER_END_S:
            await trio.sleep(POLL_S)
            self._shown_to(peer, known.run_id)
            rows = await own_lines(self._node, known.run_id, self._level(wanted), after, FRAME_LINES_MAX)
            if not rows and trio.current_time() - alive_at < ALIVE_S:
                continue
            alive_at = trio.current_time()
            async for frame in self._frames(peer, known, wanted, rows):
                yield frame
                await trio.sleep(size.pause_s(len(frame), trio.current_time()))
            if rows:
                after, said_at = rows[-1]["seq"], alive_at
                await trio.sleep(lines.pause_s(len(rows), trio.current_time()))

    async def _frames(
        self, peer: NodeId, known: KnownRun, wanted: LogsWanted, rows: list[Json]
    ) -> AsyncGenerator[bytes, None]:
        """At least one, be it without lines. Other tasks of the node have their turn after every line, and `peer` and
        what is private are looked at again before every frame."""
        for frame, is_last in _in_frames(rows):
            self._shown_to(peer, known.run_id)
            is_part = self._level(wanted) != wanted.level
            private, lines = private_words(self._node), list[SharedLine]()
            for row in frame:
                await self._wait_to_redact(_cost(row), known, peer)
                lines.append(_shared(row, private))
            await trio.lowlevel.checkpoint()
            yield pack(SharedLines(lines=tuple(lines), is_through=is_last, is_part=is_part))

    async def _wait_to_redact(self, characters: int, known: KnownRun, peer: NodeId) -> None:
        """Until the peer's member may have as much; the group may have admitted many of its nodes."""
        member, now = known.place.state().nodes[peer].member_id, trio.current_time()
        if member not in self._redacting:
            while len(self._redacting) >= MEMBERS_KNOWN_MAX:
                del self._redacting[next(iter(self._redacting))]
            self._redacting[member] = ReadingSpeed(MEMBER_CHARACTERS_PER_S, now, MEMBER_CHARACTERS_BURST)
        await trio.sleep(self._redacting[member].pause_s(characters, now))

    def _shown_to(self, peer: NodeId, run: RunId) -> KnownRun:
        """The run, if `peer` may read of it. Who may not does not learn whether there is such a run here."""
        known = self._node.runs.known.get(run)
        if known is None or known.driver is None or not may_read_logs(known, peer):
            raise Refused(
                "not-shown",
                "It shows you no log of this run",
                remedy="ask a node in the run; members in it, its proposer and the group's admins may read",
            )
        return known

    def _level(self, wanted: LogsWanted) -> Level:
        match self._node.policy.logs:
            case "none":
                raise Refused("not-shared", "Its owner shares no logs", remedy="ask its owner")
            case "errors":
                return "CRITICAL" if wanted.level == "CRITICAL" else "ERROR"
            case "all":
                return wanted.level


def has_ended(known: KnownRun) -> bool:
    """Whether nothing more will be said of the run here, unless it is resumed or extended."""
    return known.driver.ended.is_set() if known.driver is not None else known.is_over


def may_read_logs(known: KnownRun, peer: NodeId) -> bool:
    """Whether `peer` is a node of an admin, or of a member that takes part in the run or has proposed it; an observer,
    of the group or of the run, reads metrics alone."""
    state, ledger = known.place.state(), known.ledger
    member = state.member_of(peer)
    if member is None or ledger is None or member.role == "observer":
        return False
    taking_part = {node for node, note in ledger.notes().items() if note.role != "observer"}
    members = {entry.member_id for node in taking_part if (entry := state.nodes.get(node)) is not None}
    return member.role == "admin" or state.nodes[peer].member_id in members | {known.entry.proposer_member}


async def own_lines(node: "Node", run: RunId, level: Level, after: int | None, limit: int) -> list[Json]:
    """What this node's record has of its own lines about a run, in order; without `after` the newest."""
    wanted = {"run_id": run, "node": node.identity.node_id, "level": level, "limit": limit}
    if after is None:
        newest = await node.record.query("logs_tail", **wanted)
        return sorted(newest, key=lambda row: int(row["seq"]))  # where one goes on; a clock may have been put back
    return await node.record.query("logs", after=after, **wanted)


def private_words(node: "Node") -> frozenset[str]:
    """What this node knows to be private: where things lie, its data sets' options, its user's and machine's names."""
    machine = platform.node()
    words = {os.path.expanduser("~"), node.home}
    words |= {_user(), machine, machine.partition(".")[0]} - _COMMON_NAMES
    for data in node.data_sets.all():
        path = Path(data.path)
        words |= {data.path, str(path.parent), path.name if path.suffix else "", *_texts(data.options.values())}
    return frozenset(words - {"", "/"})


def _texts(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, dict | list | tuple):
            yield from _texts(value.values() if isinstance(value, dict) else value)
        elif isinstance(value, str) or (not isinstance(value, bool) and len(str(value)) >= OPTION_DIGITS_MIN):
            yield str(value)


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):  # the system knows no name for who runs this
        return ""


def _cost(row: Json) -> int:
    return min(len(row["message"]), LINE_CHARACTERS_MAX)


def _newest(rows: list[Json]) -> list[Json]:
    """As many of the last `rows` as ANSWER_CHARACTERS_MAX allows."""
    size = 0
    for place in range(len(rows) - 1, -1, -1):
        size += _cost(rows[place])
        if size > ANSWER_CHARACTERS_MAX:
            return rows[place + 1 :]
    return rows


def _in_frames(rows: list[Json]) -> Iterator[tuple[list[Json], bool]]:
    """Rows for each frame, and whether it is the last; at least one."""
    frame, size = list[Json](), 0
    for row in rows:
        if frame and (len(frame) == FRAME_LINES_MAX or size + _cost(row) > FRAME_CHARACTERS_MAX):
            yield frame, False
            frame, size = [], 0
        frame.append(row)
        size += _cost(row)
    yield frame, True


def _shared(row: Json, private: frozenset[str]) -> SharedLine:
    return SharedLine(
        sequence=row["seq"],
        time=row["time"],
        level=row["level"] if row["level"] in LEVELS else "INFO",
        logger=row["logger"][:80],
        text=redact(row["message"], private)[:LINE_CHARACTERS_MAX],
    )
