"""`fednode demo`: real nodes on this machine form a group, train one model together on real digits, and stop.

Everything is asked of the nodes through their local API, as anybody could. What they are compared with is computed
meanwhile by a process of its own (node.demo.scores); how none of the processes stays behind is in node.demo.processes.
"""

import json as json_text
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from fednode_client import ClientError
from node.cli.show import size
from node.demo.processes import Children
from node.demo.scorer import STDERR as SCORER_STDERR
from node.demo.screen import Screen, standard_stream
from node.demo.story import Story, Told
from node.demo.words import Outcome, outcome_of, steps_to_look_further
from protocol.errors import FednodeError, Refused

SHELL_SIGNAL = 128  # what a process that a signal ended exits with, less the signal's number


def run_demo(*, nodes: int, rounds: int, codec: str, keep: Path | None, json: bool) -> int:
    """Play the demo, and give the exit code. No process of it is left when this returns, nor if this process is killed.

    The nodes' homes lie in a new folder, `keep` or a temporary one that is removed in the end; where the demo fails it
    stays, for its logs. Raises FednodeError, and Refused when there is something in `keep`.
    """
    folder = _new_folder(keep)
    for name in ["data", *(f"node-{number}" for number in range(nodes))]:
        (folder / name).mkdir(mode=0o700)
    demo = _Demo(nodes, rounds, codec, folder, keep, Screen(standard_stream(json)))
    try:
        trio.run(demo.run)
    except BaseExceptionGroup as group:
        error = _first(group)
        # SystemExit is rich's way to say that nobody reads any more, as behind `| head`; a terminal that went away
        # takes no words about a signal.
        if not (demo.signal or isinstance(error, SystemExit)):
            raise _with_place(error, folder) from group
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
        return SHELL_SIGNAL + (demo.signal or signal.SIGPIPE)
    if demo.signal:
        return SHELL_SIGNAL + demo.signal
    if json and demo.outcome is not None:
        print(json_text.dumps(demo.outcome.plain()), flush=True)  # noqa: T201
    return 0


class _Demo:
    def __init__(self, nodes: int, rounds: int, codec: str, folder: Path, keep: Path | None, screen: Screen) -> None:
        self.outcome: Outcome | None = None
        self.signal = 0  # that interrupted us
        self._nodes = nodes
        self._rounds = rounds
        self._codec = codec
        self._folder = folder
        self._keep = keep
        self._screen = screen
        self._began = time.monotonic()
        self._children = Children()
        self._playing = trio.CancelScope()

    async def run(self) -> None:
        """Play, and have everything ended and tidied up, whatever happens."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._heed, signals)
                nursery.start_soon(self._screen.animate)
                self._screen.open()
                try:
                    await self._play()
                finally:
                    await self._children.end()
                    self._screen.close()
                nursery.cancel_scope.cancel()

    async def _heed(self, signals: AsyncIterator[int]) -> None:
        """The first signal ends the demo in order, the second at once."""
        async for number in signals:
            if self.signal:
                self._children.kill()
            self.signal = number
            self._playing.cancel()

    async def _play(self) -> None:
        told: Told | None = None
        with self._playing:
            story = Story(self._nodes, self._rounds, self._codec, self._folder, self._children, self._screen)
            told = await story.tell()
        self._screen.begin("The nodes stop")
        await self._children.end()
        if self._keep is None:
            shutil.rmtree(self._folder, ignore_errors=True)
        else:
            (self._folder / "data" / SCORER_STDERR).unlink(missing_ok=True)
        if told is None or self.signal:
            self._screen.close()
            place = f"its folder stays: {self._keep}" if self._keep else "its folder is removed"
            self._screen.say(f"Interrupted. Every process of the demo has ended, and {place}.")
            return
        self._screen.done("The nodes said goodbye and stopped; no process is left")
        self._report(told)

    def _report(self, told: Told) -> None:
        homes = [self._folder / f"node-{number}" for number in range(self._nodes)]
        seconds = time.monotonic() - self._began
        self.outcome = outcome_of(
            told.run,
            told.curves,
            nodes=self._nodes,
            seconds=seconds,
            homes=homes,
            codec=self._codec,
            bytes_trained=told.bytes_trained,
        )
        self._screen.close()
        if told.run is not None:
            self._screen.report(self.outcome, told.curves, told.held_out)
        kept = [("homes", f"{self._keep}/node-0 to {homes[-1].name}, and data")] if self._keep else []
        time_taken = ("time", f"{seconds:.1f} s; {_cpu_s():.1f} s of CPU over all processes")
        a_round = f"{size(self.outcome.bytes_per_round)} a round, sent by all nodes together"
        codec = [("updates", f"travel as {self._codec}: {a_round}")] if told.run is not None else []
        self._screen.facts([*told.facts(), *codec, time_taken, *kept])
        self._screen.next_steps(steps_to_look_further(self._keep, trained=told.run is not None))


def _new_folder(keep: Path | None) -> Path:
    """An empty folder that is ours alone. Raises Refused, or FednodeError when it cannot be made."""
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="fednode-demo-")).resolve()
    folder = keep.expanduser().absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise Refused("folder-in-use", f"There is something in {folder}", remedy="name a new folder with --keep")
    except OSError as error:
        raise FednodeError(f"{folder} cannot be used ({error.strerror})", remedy="name another with --keep") from None
    return folder


def _cpu_s() -> float:
    """CPU seconds of this process and of all that have ended below it."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _first(error: BaseException) -> BaseException:
    """The error to name: one that people can read, if there is any in the group, and its cause before its effects."""
    if isinstance(error, BaseExceptionGroup):
        readable = error.subgroup(FednodeError) or error.subgroup(ClientError)
        return _first((readable or error).exceptions[0])
    return error


def _with_place(error: BaseException, folder: Path) -> BaseException:
    """The error with the place of the logs."""
    if not isinstance(error, FednodeError | ClientError):
        error.add_note(f"The demo's folder, with the nodes' logs, is {folder}")
        return error
    return FednodeError(error.what, remedy=f"{error.remedy}; the demo's folder, with the nodes' logs, is {folder}")
