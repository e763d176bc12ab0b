"""Questions of members to each other, each on a stream of its own: one request, then answers until the end.

For what is asked now and then and may be long, such as the history of a run or a node's log. What the protocol lives
on goes over the links. Whether the asker may know it is for each answerer to decide: the door only says that the asker
is a member of some group that is shared.
"""

import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Annotated

import trio
from pydantic import Field

from node.seams import Network, Stream, StreamClosed
from protocol.errors import FednodeError, Refused, RemoteProtocolError
from protocol.keys import NodeId
from protocol.limits import FRAME_BYTES_MAX
from protocol.version import PROTOCOL_VERSION
from protocol.wire import Wire, pack, unpack

log = logging.getLogger("fednode.questions")

QUESTION_PROTOCOL = f"/fednode/question/{PROTOCOL_VERSION}"
REQUEST_BYTES_MAX = 16 * 1024  # a question names what it is about, it does not carry it
REQUEST_DEADLINE_S = 10.0  # who has opened a stream says at once what for
FRAME_DEADLINE_S = 20.0  # between two frames of an answer: a busy disk answers in two seconds
BYTES_PER_S_MIN = 16 * 1024  # of an answer under way, either way: a bad line of a laptop carries more
PEER_QUESTIONS_MAX = 4  # of one peer at once; more would only wait for the same disk
MEMBER_QUESTIONS_MAX = 6  # of one member's nodes at once: a laboratory's machines do not crowd out the others
QUESTIONS_MAX = 16  # of all peers at once; each may hold a frame of FRAME_BYTES_MAX
QUESTIONS_AND_FIRSTS_MAX = 32  # with the first questions of members who have no other: a few cannot take all places
_REFUSAL_BYTES_MAX = 4 * 1024  # a sentence and what to do about it

# Gives the frames of the answer to a peer's request, each at most FRAME_BYTES_MAX. Raises Refused for what is not to
# be told, RemoteProtocolError for what makes no sense.
Answerer = Callable[[NodeId, bytes], AsyncGenerator[bytes, None]]
_FRAME, _END, _REFUSED = b"\0", b"\1", b"\2"  # what comes next: a frame, nothing, why not


class _Question(Wire):
    kind: Annotated[str, Field(max_length=40)]
    request: Annotated[bytes, Field(max_length=REQUEST_BYTES_MAX)]


class _Refusal(Wire):
    code: Annotated[str, Field(max_length=40)]
    what: Annotated[str, Field(max_length=1000)]
    remedy: Annotated[str, Field(max_length=1000)]


class Questions:
    """Asks other nodes, and once `listen` was called answers them by `answerers`, one for each kind of question.
    `member_of` says whose a node is: each is somebody's own by default."""

    def __init__(
        self, network: Network, answerers: Mapping[str, Answerer], member_of: Callable[[NodeId], str] = str
    ) -> None:
        self._network = network
        self._answerers = answerers
        self._member_of = member_of
        self._open: Counter[str] = Counter()
        self._open_of_member: Counter[str] = Counter()

    def listen(self) -> None:
        self._network.handle(QUESTION_PROTOCOL, self._converse)

    async def ask(
        self, peer: NodeId, kind: str, request: bytes, *, bytes_max: int, is_at_hand: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """The frames of the peer's answer. Close it (contextlib.aclosing) when done, also before its end.

        Raises FednodeError: the peer is not there, refuses (Refused), says nothing for FRAME_DEADLINE_S, more than
        `bytes_max` in all or, where the answer `is_at_hand` and waits for no news, less than BYTES_PER_S_MIN.
        """
        stream = await self._network.open(peer, QUESTION_PROTOCOL)
        try:
            await stream.send_frame(pack(_Question(kind=kind, request=request)))
            async with aclosing(_answer_frames(stream, bytes_max, is_at_hand)) as frames:
                async for frame in frames:
                    yield frame
        finally:
            with trio.CancelScope(shield=True):
                await stream.reset()

    async def _converse(self, stream: Stream) -> None:
        """Answer the one question that comes on `stream`."""
        peer, member = stream.peer, self._member_of(stream.peer)
        if not self._has_room(peer, member):
            await _refuse(stream, Refused("busy", "Too many questions at once", remedy="ask again in a while"))
            return
        self._open[peer] += 1
        self._open_of_member[member] += 1
        try:
            await self._serve(stream)
        finally:
            self._open -= Counter([peer])
            self._open_of_member -= Counter([member])

    def _has_room(self, peer: NodeId, member: str) -> bool:
        questions_max = QUESTIONS_MAX if self._open_of_member[member] else QUESTIONS_AND_FIRSTS_MAX
        return (
            self._open[peer] < PEER_QUESTIONS_MAX
            and self._open_of_member[member] < MEMBER_QUESTIONS_MAX
            and self._open.total() < questions_max
        )

    async def _serve(self, stream: Stream) -> None:
        try:
            with trio.fail_after(REQUEST_DEADLINE_S):
                question = unpack(_Question, await stream.receive_frame(2 * REQUEST_BYTES_MAX), 2 * REQUEST_BYTES_MAX)
        except (trio.TooSlowError, StreamClosed):
            log.debug("%s opened a stream and asked nothing", stream.peer)
            await stream.reset()
            return
        except RemoteProtocolError as error:
            await _refuse(stream, Refused("no-question", error.what, remedy=error.remedy))
            return
        async with trio.open_nursery() as nursery:  # an answer may wait for news, and its asker be gone
            nursery.start_soon(_cancel_at_end_of, stream, nursery.cancel_scope)
            await self._answer(stream, question)
            nursery.cancel_scope.cancel()

    async def _answer(self, stream: Stream, question: _Question) -> None:
        try:
            answerer = self._answerers.get(question.kind)
            if answerer is None:
                raise Refused("unknown-question", f"Nobody here answers {question.kind!r}", remedy="upgrade this node")
            async with aclosing(answerer(stream.peer, question.request)) as frames:
                async for frame in frames:
                    await _send(stream, _FRAME)
                    await _send(stream, frame)
            await _send(stream, _END)
            await stream.close()
        except Refused as refusal:
            await _refuse(stream, refusal)
        except RemoteProtocolError as error:
            await _refuse(stream, Refused("no-question", error.what, remedy=error.remedy))
        except StreamClosed as error:
            log.debug("%s does not wait for its answer: %s", stream.peer, error.what)
            await stream.reset()
        except FednodeError as error:  # it is ours, and says nothing that the peer should know
            log.warning("the question of %s could not be answered: %s", stream.peer, error)
            await _refuse(stream, Refused("failed", "The answer could not be made", remedy="ask again later"))


async def _send(stream: Stream, frame: bytes) -> None:
    """Send a frame whole. Raises StreamClosed: who takes it in too slowly would hold a place for good."""
    with trio.move_on_after(FRAME_DEADLINE_S + len(frame) / BYTES_PER_S_MIN):
        await stream.send_frame(frame)
        return
    raise StreamClosed(f"{stream.peer} takes its answer in too slowly", remedy="it asks again")


async def _answer_frames(stream: Stream, bytes_max: int, is_at_hand: bool) -> AsyncGenerator[bytes, None]:
    left = bytes_max
    waited_s = 0.0  # for the peer: what we do with a frame takes its own time
    while True:
        asked_at = trio.current_time()
        is_next = await _frame(stream, 1)
        if is_next == _END:
            return
        if is_next == _REFUSED:
            refusal = unpack(_Refusal, await _frame(stream, _REFUSAL_BYTES_MAX), _REFUSAL_BYTES_MAX)
            raise Refused(refusal.code, f"{stream.peer} says: {refusal.what}", remedy=refusal.remedy)
        if is_next != _FRAME:
            raise RemoteProtocolError(f"{stream.peer} answers in a way that this node does not know")
        frame = await _frame(stream, FRAME_BYTES_MAX)
        left -= len(frame)
        if not frame:
            raise RemoteProtocolError(f"{stream.peer} answers with an empty frame")
        waited_s += trio.current_time() - asked_at
        if is_at_hand and waited_s > FRAME_DEADLINE_S + (bytes_max - left) / BYTES_PER_S_MIN:
            raise StreamClosed(f"{stream.peer} answers too slowly", remedy="ask again, or another")
        if left < 0:
            raise RemoteProtocolError(f"The answer of {stream.peer} has over {bytes_max} bytes")
        yield frame


async def _frame(stream: Stream, bytes_max: int) -> bytes:
    with trio.move_on_after(FRAME_DEADLINE_S):
        return await stream.receive_frame(bytes_max)
    raise StreamClosed(f"{stream.peer} said nothing for {FRAME_DEADLINE_S:.0f} s", remedy="ask again, or another")


async def _refuse(stream: Stream, refusal: Refused) -> None:
    try:
        await _send(stream, _REFUSED)
        await _send(
            stream, pack(_Refusal(code=refusal.code[:40], what=refusal.what[:1000], remedy=refusal.remedy[:1000]))
        )
        await stream.close()
    except StreamClosed as error:
        log.debug("%s does not wait for its refusal: %s", stream.peer, error.what)


async def _cancel_at_end_of(stream: Stream, scope: trio.CancelScope) -> None:
    with suppress(FednodeError):
        await stream.receive_frame(1)  # nothing more is to come but the end
    scope.cancel()
