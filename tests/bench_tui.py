"""The dashboard's share of a core while 50 nodes train in 3 runs.

The dashboard runs in a process of its own on a pseudo-terminal of 120 × 36, over a real Unix socket; what is counted
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
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "tui"))

from tui_recording import Recorder  # noqa: E402
from tui_server import Server  # noqa: E402

NODES, RUNS, ROUND_S = 50, 3, 5.0
WARM_UP_S, MEASURED_S = 6.0, 16.0
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


async def cpu_share(columns=120, lines=36):
    """CPU seconds a second that the dashboard takes, after its start."""
    with tempfile.TemporaryDirectory() as home:
        async with Server(home, busy):
            master, slave = pty.openpty()
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            asyncio.get_running_loop().add_reader(master, os.read, master, 1 << 20)
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
                await asyncio.sleep(WARM_UP_S)
                before, since = cpu_seconds(child.pid), time.monotonic()
                await asyncio.sleep(MEASURED_S)
                return (cpu_seconds(child.pid) - before) / (time.monotonic() - since)
            finally:
                asyncio.get_running_loop().remove_reader(master)
                child.kill()
                await child.wait()
                os.close(master)


def cpu_seconds(pid):
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def figures():
    return {"tui_core_share": round(asyncio.run(cpu_share()), 3)}


if __name__ == "__main__":
    print(figures())
