"""A worker process: loads one run's task, then trains and evaluates as the node asks, until the pipe ends.

Started as `python -m node.training.worker LINK_FD PARENT_PID BEAT_S` (worker_process). The main thread runs the task; a
second one listens to the node, sends signs of life while a call is under way, and ends all when the node is gone.
"""

import ctypes
import faulthandler
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fednode import Interrupted
from node.seams import TaskOutput, TaskSpec, TrainerFailed
from node.training.capture import captured_logging
from node.training.sgd import Progress
from node.training.training import LoadedTask
from node.training.worker_frames import PREDICTIONS_FILE, FrameReader, encode_frame, from_field, to_field
from node.training.worker_usage import UsageMeter

PR_SET_PDEATHSIG = 1  # of Linux's prctl
NICENESS = 10  # the node's own process goes first: late heartbeats cost an election
OOM_SCORE_ADJUSTMENT = "500"  # when memory runs out, the worker is to die and not the node
RECEIVE_BYTES = 256 * 1024


class Link:
    """The worker's end of the pipe."""

    def __init__(self, connection: socket.socket, progress: Progress, beat_s: float) -> None:
        self._connection = connection
        self._progress = progress
        self._beat_s = beat_s
        self._sending = threading.Lock()
        self.requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.busy = False

    def send(self, frame: Mapping[str, Any]) -> None:
        encoded = encode_frame(frame)
        with self._sending:
            self._connection.sendall(encoded)

    def say(self, output: TaskOutput) -> None:
        self.send({"is": "output", **{name: value for name, value in asdict(output).items() if value}})

    def coded(self, upto: int) -> None:
        """So many bytes of the update under way are in its file."""
        self.send({"is": "coded", "call": self._progress.call, "bytes": upto})

    def listen(self) -> None:
        """Take requests in and give signs of life; for a thread. Ends the process when the node is gone."""
        reader = FrameReader()
        try:
            while True:
                readable, _, _ = select.select([self._connection], [], [], self._beat_s)
                if readable:
                    data = self._connection.recv(RECEIVE_BYTES)
                    if not data:
                        break
                    for frame in reader.feed(data):
                        self._take(frame)
                elif self.busy:
                    self.send({"is": "beat", "ticks": self._progress.ticks, "cpu_s": time.process_time()})
        finally:
            os.killpg(0, signal.SIGKILL)

    def _take(self, frame: dict[str, Any]) -> None:
        if frame["do"] == "abort":
            self._progress.aborted = max(self._progress.aborted, frame["call"])
        else:
            self.requests.put(frame)


def main() -> None:
    """Serve the node that started this process. Never returns."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    _die_with(int(sys.argv[2]))
    faulthandler.enable()  # a crash in a library shows where, on stderr, which the node reads
    os.nice(NICENESS)
    progress = Progress()
    link = Link(connection, progress, beat_s=float(sys.argv[3]))
    threading.Thread(target=link.listen, name="link", daemon=True).start()
    with captured_logging(link.say, progress):
        serve(link, progress, Path.cwd())


def serve(link: Link, progress: Progress, directory: Path) -> None:
    """Answer requests one after another, for ever. The first is to open a task. Large answers go to `directory`."""
    loaded: LoadedTask | None = None
    while True:
        request = link.requests.get()
        link.busy = True
        progress.begin(request["call"], request.get("round", 0))
        try:
            if loaded is None:
                spec = TaskSpec(**request["spec"])
                state = Path(request["state"])
                loaded = LoadedTask(spec, state, link.say, progress, staging=directory, coded=link.coded)
                answer: dict[str, Any] = {}
            else:
                answer = _answer(loaded, request, directory)
            reply = {"is": "answer", **answer}
        except TrainerFailed as failure:
            told = {"what": failure.what, "remedy": failure.remedy, "traceback": failure.traceback}
            reply = {"is": "failure", **told, "brief": failure.brief}
        except Interrupted:
            reply = {"is": "failure", "what": "The call was aborted", "remedy": "nothing to do", "traceback": ""}
        sys.stdout.flush()
        sys.stderr.flush()
        link.busy = False
        link.send({**reply, "call": request["call"]})


def _answer(loaded: LoadedTask, request: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Do what is asked. All but the first come with the base model."""
    if request["do"] == "initial_model":
        initial = loaded.initial_model()
        return {
            "schema": to_field(initial.schema, directory / "schema"),
            "model": to_field(initial.model, directory / "model"),
        }
    schema = from_field(request["schema"], directory / "schema")
    schema = schema.read_bytes() if isinstance(schema, Path) else schema
    base = _place(request["model"], directory / "base")
    if request["do"] == "predict":
        return {"rows": loaded.predict(request["round"], schema, base, directory / PREDICTIONS_FILE)}
    if request["do"] == "train":
        meter = UsageMeter()
        server_state = _place(request["server_state"], directory / "server_state")
        result = loaded.train(request["round"], schema, base, directory / "update", server_state)
        update = result.update if isinstance(result.update, bytes) else True  # in its file
        return {**asdict(result), "update": update, "usage": meter.usage()}
    evaluated = loaded.evaluate(request["round"], schema, base)
    return {} if evaluated is None else asdict(evaluated)


def _place(given: Any, file: Path) -> bytes | Path:
    """Bytes, or where they lie: a path of the node's, or a file of this session's."""
    return Path(given) if isinstance(given, str) else from_field(given, file)


def _die_with(parent: int) -> None:
    """Have Linux kill this process when the thread that started it ends. Elsewhere the end of the pipe must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError):  # a container may not have it
            Path("/proc/self/oom_score_adj").write_text(OOM_SCORE_ADJUSTMENT)
    if os.getppid() != parent:  # it ended before we asked
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
