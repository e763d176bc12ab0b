"""A worker process and everything that is heard from it: answers, output, signs of life, its end.

Decides when a worker is given up, and keeps the first reason: every later call says it.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

from node.seams import TaskOutput, TrainerFailed
from node.training.worker_checks import count, failure_of, number, output_of, shown
from node.training.worker_frames import FrameReader, encode_frame
from node.training.worker_output import (
    CUT_BYTES_PER_S,
    FRAME_READ_BYTES,
    LINK_BYTES_PER_S,
    PIPE_BYTES,
    READ_BYTES_PER_S,
    Bucket,
    LineCutter,
    OutputGate,
    ReadingSpeed,
    Say,
    cut_line,
)
from node.training.worker_process import WorkerProcess, describe_end, remedy_for_end
from node.training.worker_watch import Watch, WatchLimits
from protocol.errors import RemoteProtocolError

LAST_WORDS_LINES = 100  # of a crashed worker's stderr, shown as its traceback
LAST_WORDS_S = 2.0  # for reading what a dead worker left in its pipes; something may still hold them open
UNFINISHED_LINE_S = 2.0  # after which a line without an end is passed on: nobody knows whether one will come

Coded = Callable[[int], Awaitable[None]]  # told how many bytes of an update are in its file


@dataclass(slots=True)
class _Call:
    number: int
    coded: Coded | None = None
    answer: dict[str, Any] | None = None
    done: trio.Event = field(default_factory=trio.Event)


class AttendedWorker:
    """`attend` must run all the time; it returns when the worker has ended and all of it is read.

    `keep` takes an artifact in. Meanwhile nothing more is heard from the worker, so one that makes artifacts faster
    than they can be kept has to wait. `discard` removes the staged files of these names, as far as they are there."""

    def __init__(
        self,
        process: WorkerProcess,
        say: Say,
        limits: WatchLimits,
        keep: Callable[[TaskOutput], Awaitable[None]] | None = None,
        discard: Callable[[Sequence[str]], Awaitable[None]] | None = None,
    ) -> None:
        self._process = process
        self._keep = keep
        self._discard = discard
        self._staged: list[str] = []  # files of artifacts heard of in what was read last
        self._keeping = False
        self._coded_bytes = 0  # of the update under way, as the worker said in what was read last
        self._limits = limits
        self._gate = OutputGate(say, trio.current_time())
        self._calling = trio.Lock()
        self._sending = trio.Lock()
        self._number = 0
        self._call_now: _Call | None = None
        self._watch = Watch(limits)
        self._last_words: deque[str] = deque(maxlen=LAST_WORDS_LINES)
        self._failure: TrainerFailed | None = None
        self._nursery: trio.Nursery | None = None

    async def attend(self) -> None:
        """Read what the worker says, and watch over it, until it has ended. Kills it when cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                readers = [
                    self._start(nursery, self._read_frames),
                    self._start(nursery, partial(self._read_lines, self._process.stdout, "stdout")),
                    self._start(nursery, partial(self._read_lines, self._process.stderr, "stderr")),
                ]
                nursery.start_soon(self._keep_watch)
                status = await self._process.ended()
                self.give_up(f"The worker process {describe_end(status)}", remedy_for_end(status))
                with trio.move_on_after(LAST_WORDS_S):
                    for reader in readers:
                        await reader.wait()
                nursery.cancel_scope.cancel()
        finally:
            self.give_up("The session is closed", "open a new one")
            await self._process.close()
            self._gate.settle()
            if self._call_now is not None:
                self._call_now.done.set()

    @staticmethod
    def _start(nursery: trio.Nursery, reader: Callable[[], Awaitable[None]]) -> trio.Event:
        """Run `reader` in the nursery. Returns the event of its end."""
        finished = trio.Event()

        async def run() -> None:
            await reader()
            finished.set()

        nursery.start_soon(run)
        return finished

    def give_up(self, what: str, remedy: str) -> None:
        """End the worker. The first reason stands; later calls say it."""
        if self._failure is None:
            self._failure = TrainerFailed(what, remedy=remedy)
        self._process.kill()

    async def call(self, do: str, coded: Coded | None = None, **fields: Any) -> dict[str, Any]:
        """The worker's answer to a request; calls take turns. Raises TrainerFailed for its failure, or its end.

        A call that is cancelled is aborted in the worker, while this returns at once."""
        async with self._calling:
            return await self._call_alone(do, coded, fields)

    async def _call_alone(self, do: str, coded: Coded | None, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._gate.round = fields.get("round", 0)
        if self._failure is not None:
            raise self.why()
        self._number += 1
        call = self._call_now = _Call(self._number, coded)
        self._watch.call_begins()
        try:
            await self._send({"do": do, "call": call.number, **fields})
            await call.done.wait()
        except trio.Cancelled:
            self._abort(call.number)
            raise
        finally:
            self._watch.call_ends()
            self._call_now = None
        if call.answer is None:
            raise self.why()
        if call.answer["is"] == "failure":
            raise TrainerFailed(**{key: text for key, text in call.answer.items() if key != "is"})
        return call.answer

    def why(self) -> TrainerFailed:
        """Why the session ended, as a new exception, for one is raised several times."""
        assert self._failure is not None
        words = "\n".join(self._last_words)
        return TrainerFailed(self._failure.what, remedy=self._failure.remedy, traceback=words)

    def _abort(self, call: int) -> None:
        """Tell the worker that nobody waits for `call` any more, without waiting for anything."""
        if self._nursery is not None and self._failure is None:
            self._watch.aborting(call)
            self._nursery.start_soon(self._send, {"do": "abort", "call": call})

    async def _send(self, frame: Mapping[str, Any]) -> None:
        encoded = encode_frame(frame)
        async with self._sending:
            try:
                await self._process.link.send_all(encoded)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._process.kill()  # if it has not ended anyway; `attend` will see why
            except trio.Cancelled:
                self.give_up("A call was cancelled while it was being sent", "open a new session")  # half a frame went
                raise

    async def _read_frames(self) -> None:
        frames, speed = FrameReader(), ReadingSpeed(LINK_BYTES_PER_S, trio.current_time())
        try:
            while data := await self._process.link.receive_some(FRAME_READ_BYTES):
                for frame in frames.feed(data):
                    if (output := self._take(frame)) is not None:
                        await self._take_in(output)
                await self._tell_coded()
                await self._discard_rest()
                await trio.sleep(speed.pause_s(len(data), trio.current_time()))
        except (RemoteProtocolError, KeyError, TypeError, ValueError, AttributeError) as error:
            self.give_up(
                f"The worker garbled its pipe ({error})", "keep the task's code off file descriptors not its own"
            )
        except trio.BrokenResourceError:
            pass  # it ended; `attend` will see why

    def _take(self, frame: Mapping[str, Any]) -> TaskOutput | None:
        """One frame of the worker's; the artifact in it, if that is one. Raises whatever a frame that makes no sense
        leads to."""
        match frame["is"]:
            case "output":
                self._watch.progress()
                output = output_of(frame)
                if output.staged is not None:
                    self._staged.append(output.staged.file)
                passes = self._gate.take(output, trio.current_time())
                return output if passes and output.kind == "artifact" else None
            case "coded":
                self._watch.progress()
                if self._call_now is not None and self._call_now.number == frame["call"]:
                    self._coded_bytes = count(frame["bytes"])
            case "beat":
                self._watch.beat(count(frame["ticks"]), number(frame["cpu_s"]))
            case "answer" | "failure":
                answer = {"is": "failure", **failure_of(frame)} if frame["is"] == "failure" else dict(frame)
                self._gate.settle()
                self._watch.ended(count(frame["call"]))
                if self._call_now is not None and self._call_now.number == frame["call"]:
                    self._call_now.answer = answer
                    self._call_now.done.set()
            case other:
                raise ValueError(f"there are no frames of kind {shown(other)}")
        return None

    async def _take_in(self, artifact: TaskOutput) -> None:
        if self._keep is None:
            return
        self._keeping = True  # it is we who let the worker wait
        try:
            await self._keep(artifact)
        finally:
            self._keeping = False

    async def _tell_coded(self) -> None:
        call, upto, self._coded_bytes = self._call_now, self._coded_bytes, 0
        if upto and call is not None and call.coded is not None:
            await call.coded(upto)

    async def _discard_rest(self) -> None:
        """Of what we have heard of, nothing lies about any longer, be it kept, refused or left out."""
        staged, self._staged = self._staged, []
        if not staged or self._discard is None:
            return
        self._keeping = True
        try:
            await self._discard(staged)
        finally:
            self._keeping = False

    async def _read_lines(self, stream: trio.lowlevel.FdStream, kind: str) -> None:
        lines, speed = LineCutter(), ReadingSpeed(READ_BYTES_PER_S, trio.current_time())
        looked_at = Bucket(2 * PIPE_BYTES, CUT_BYTES_PER_S, trio.current_time())
        while True:
            with trio.move_on_after(UNFINISHED_LINE_S if lines.is_unfinished else math.inf) as patience:
                data = await stream.receive_some(PIPE_BYTES)
            if patience.cancelled_caught:
                self._heard_lines(kind, lines.end())
                continue
            if not data:
                break
            if looked_at.take(len(data), trio.current_time()) == len(data):
                self._heard_lines(kind, lines.feed(data))
            else:
                self._watch.progress()
                self._gate.leave_out(lines.skip(data))
            await trio.sleep(speed.pause_s(len(data), trio.current_time()))
        self._heard_lines(kind, lines.end())

    def _heard_lines(self, kind: str, lines: list[str]) -> None:
        self._watch.progress()
        if kind == "stderr":
            self._last_words.extend(cut_line(line) for line in lines[-LAST_WORDS_LINES:])
        self._gate.lines(kind, lines, trio.current_time())

    async def _keep_watch(self) -> None:
        while True:
            await trio.sleep(self._limits.beat_s)
            if self._keeping:
                self._watch.heard()
                self._watch.progress()
            if trouble := self._watch.tick():
                self.give_up(
                    f"The worker process {trouble}, and was killed",
                    "look at the task's code for what it waits for; if it needs longer, stop the node and raise the"
                    " limit in settings.json in its home",
                )
