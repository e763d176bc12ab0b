"""How light the dashboard is: its start, its share of a core while 50 nodes train in 3 runs, and while nothing happens.

It runs in a process of its own on a pseudo-terminal of 120 × 36, over a real Unix socket; what is counted
is that process's CPU time. Every run commits a round each 5 s; every participant's change of state, every transfer and
every node's metrics come as events of their own.
"""

import asyncio
import fcntl
import os
import pty
import random
import struct
import sys
import tempfile
import termios
import time
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "tui"))

from tui_recording import Recorder  # noqa: E402
from tui_server import Server  # noqa: E402

NODES, RUNS, ROUND_S = 50, 3, 5.0
WARM_UP_S, MEASURED_S = 6.0, 16.0
VIEW_KEYS, VIEW_MEASURED_S = "123456781i", 6.0  # through all views, and once back
ALIVE_S = 5.0  # between the signs of life that a node gives
START_TRIES, START_DEADLINE_S = 5, 30.0
FIRST_PICTURE = ("live", "Topology", "study-0")
SHOWN_BYTES_KEPT = 1 << 20
COMMAND = "from tui.command import tui; tui()"


def round_of(story, run, at):
    """One round's events, a participant at a time, each with its place in the round from 0 to 1."""
    draw = random.Random(at)
    timed = []

    def take(place):
        timed.extend((place, event) for event in story.events)
        story.events.clear()

    for index, part in enumerate(run["participants"]):
        for state, place in (("TRAINING", 0.0), ("UPLOADING", 0.5), ("WAITING", 0.6)):
            part["state"], part["round"] = state, at
            story.emit_run(run)
            take(place + 0.3 * draw.random())
        accuracy, loss = story.quality(index, at)
        for epoch, place in ((1, 0.2), (2, 0.5)):
            rows = [
                story.metric(run, part["node_id"], key, value, at, "local", "train", epoch, epoch)
                for key, value in (("accuracy", accuracy), ("loss", loss))
            ]
            story.emit(type="metrics", metrics=rows)
            take(place + 0.2 * draw.random())
    for kind, place in (("update", 0.6), ("checkpoint", 0.95)):
        story.transfers(run, kind, at)
        for event in story.events:
            timed.append((place + 0.05 * draw.random(), event))
        story.events.clear()
    story.commit(run, at)
    story.events[:] = [event for event in story.events if event["type"] != "transfer"]
    take(0.94)
    return sorted(timed, key=lambda each: each[0])


async def busy():
    """The events of 50 nodes in 3 runs, in real time."""
    story = Recorder(nodes=NODES, runs=[f"study-{i}" for i in range(RUNS)], rounds=500)
    story.snapshot()
    for event in story.events:
        yield event
    story.events.clear()
    started = time.monotonic()
    for at in range(1, 500):
        begin = (at - 1) * ROUND_S
        timed = [
            (begin + (place + i / RUNS) * ROUND_S, event)
            for i, run in enumerate(story.runs)
            for place, event in round_of(story, run, at)
        ]
        for when, event in sorted(timed, key=lambda each: each[0]):
            wait = started + when - time.monotonic()
            if wait > 0.02:
                await asyncio.sleep(wait)
            yield event


async def idle():
    """The same nodes and runs, with nothing going on but the signs of life."""
    story = Recorder(nodes=NODES, runs=[f"study-{i}" for i in range(RUNS)], rounds=500)
    story.snapshot()
    for event in story.events:
        yield event
    while True:
        yield {"type": "alive"}
        await asyncio.sleep(ALIVE_S)


class Terminal:
    """The dashboard on a pseudo-terminal, watched from outside."""

    def __init__(self, child, master):
        self._child, self._master = child, master
        self._shown = b""
        self._news = asyncio.Event()
        self.began = time.monotonic()
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self):
        try:
            self._shown = (self._shown + os.read(self._master, 1 << 20))[-SHOWN_BYTES_KEPT:]
        except OSError:  # it has ended, and whoever waits for it will notice
            asyncio.get_running_loop().remove_reader(self._master)
        self._news.set()

    async def until_shown(self, words):
        """Wait for the words on the screen; how long ago it was started, and its CPU seconds since."""
        async with asyncio.timeout(START_DEADLINE_S):
            while any(word.encode() not in self._shown for word in words):
                self._news.clear()
                await self._news.wait()
        return time.monotonic() - self.began, self.cpu_s()

    def cpu_s(self):
        times = psutil.Process(self._child.pid).cpu_times()
        return times.user + times.system

    def press(self, key):
        os.write(self._master, key.encode())

    async def share(self, seconds):
        """CPU seconds a second that it takes."""
        before, since = self.cpu_s(), time.monotonic()
        await asyncio.sleep(seconds)
        return (self.cpu_s() - before) / (time.monotonic() - since)


@asynccontextmanager
async def dashboard(tell, columns=120, lines=36):
    with tempfile.TemporaryDirectory() as home:
        async with Server(home, tell):
            master, slave = pty.openpty()
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", COMMAND, "--home", home),
                stdin=slave,
                stdout=slave,
                stderr=slave,
                cwd=ROOT,
                env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONPATH": str(ROOT)},
            )
            os.close(slave)
            try:
                yield Terminal(child, master)
            finally:
                asyncio.get_running_loop().remove_reader(master)
                if child.returncode is None:
                    child.kill()
                await child.wait()
                os.close(master)


async def started():
    """Seconds, and CPU seconds, to the first picture; the least of some tries, for others use the machine too."""
    tries = []
    for _ in range(START_TRIES):
        async with dashboard(idle) as terminal:
            tries.append(await terminal.until_shown(FIRST_PICTURE))
    return min(seconds for seconds, _ in tries), min(cpu_s for _, cpu_s in tries)


async def cpu_share():
    """CPU seconds a second that the dashboard takes, after its start, while all goes on."""
    async with dashboard(busy) as terminal:
        await asyncio.sleep(WARM_UP_S)
        return await terminal.share(MEASURED_S)


async def share_of_views():
    """The same of each view, its first picture included, by its key."""
    async with dashboard(busy) as terminal:
        await asyncio.sleep(WARM_UP_S)
        shares = {}
        for key in VIEW_KEYS:
            terminal.press(key)
            shares[key] = await terminal.share(VIEW_MEASURED_S)
        return shares


async def idle_share():
    """The same while nothing changes."""
    async with dashboard(idle) as terminal:
        await asyncio.sleep(WARM_UP_S)
        return await terminal.share(MEASURED_S)


def figures():
    seconds, cpu_s = asyncio.run(started())
    shares = asyncio.run(share_of_views())
    print(", ".join(f"view {key}: {share:.3f}" for key, share in shares.items()))
    return {
        "tui_start_s": round(seconds, 2),
        "tui_start_cpu_s": round(cpu_s, 2),
        "tui_core_share": round(asyncio.run(cpu_share()), 3),
        "tui_views_core_share": round(sum(shares.values()) / len(shares), 3),
        "tui_idle_core_share": round(asyncio.run(idle_share()), 4),
    }


if __name__ == "__main__":
    print(figures())
