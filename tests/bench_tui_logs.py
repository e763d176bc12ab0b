"""The dashboard's share of a core while its log view follows 3,000 lines a second with 10,000 held.

As in bench_tui the dashboard runs in a process of its own on a pseudo-terminal, over a real Unix socket, and that
process's CPU time is counted: taking lines in, and painting twice a second. Once all lines are followed, once a filter
is on that a tenth of them pass, and once somebody has gone up and reads while they come.
"""

import asyncio
import sys
import time
from pathlib import Path

from bench_tui import dashboard

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "tui"))

from tui_recording import Recorder  # noqa: E402

LINES_PER_S, BATCHES_PER_S, HELD = 3_000, 10, 10_000
WARM_UP_S, MEASURED_S, REPAINTS_PER_S = 6.0, 10.0, 2
KEYS = {"followed": "7", "filtered": "7/step 3\r", "still": "7\x15\x15"}
KEYS_S = 0.2  # between them, as one types


def lines(first, count):
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
    line = {"time": stamp, "level": "INFO", "node_id": "12D3KooWaaaaaa000war", "run_id": "", "logger": "task.log"}
    return [
        {**line, "seq": at, "message": f"epoch 4, step {at % 10}{at}: loss 0.{at * 7919 % 10_000:04d}, 128 samples"}
        for at in range(first, first + count)
    ]


async def talkative():
    """A node whose task says thousands of lines a second."""
    story = Recorder(nodes=5, runs=["study"], rounds=5)
    story.snapshot()
    for event in story.events:
        yield event
    at = 1
    for _ in range(HELD // 1_000):
        yield {"type": "logs", "logs": lines(at, 1_000), "left_out": 0}
        at += 1_000
    started, said = time.monotonic(), 0
    while True:
        said += 1
        await asyncio.sleep(max(started + said / BATCHES_PER_S - time.monotonic(), 0))
        yield {"type": "logs", "logs": lines(at, LINES_PER_S // BATCHES_PER_S), "left_out": 0}
        at += LINES_PER_S // BATCHES_PER_S


async def cpu_share(keys):
    """CPU seconds a second that the dashboard takes once these keys were pressed."""
    async with dashboard(talkative) as terminal:
        await asyncio.sleep(WARM_UP_S)
        for key in keys:
            terminal.press(key)
            await asyncio.sleep(KEYS_S)
        await asyncio.sleep(WARM_UP_S)
        return await terminal.share(MEASURED_S)


def figures():
    """Shares of a core, and with all lines followed the CPU milliseconds for each repaint and the lines it brings."""
    shares = {name: asyncio.run(cpu_share(keys)) for name, keys in KEYS.items()}
    told = {f"tui_log_{name}_core_share": round(share, 3) for name, share in shares.items()}
    return told | {"tui_log_repaint_cpu_ms": round(1_000 * shares["followed"] / REPAINTS_PER_S, 1)}


if __name__ == "__main__":
    print(figures())
