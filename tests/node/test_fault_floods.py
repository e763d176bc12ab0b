"""A task that prints without end: what is kept is bounded and says what it leaves out, the node's memory stays, and the
task itself is hardly held up."""

import os
import time
from pathlib import Path

import psutil
import pytest
import trio
from test_worker import Ears, given, go, train

from node.training.trainer import WorkerTrainer
from node.training.worker_output import LINES_BURST, LINES_PER_S

pytestmark = pytest.mark.real

PRINTED_BYTES = 200_000_000
GROWTH_BYTES_MAX = 20_000_000  # of the node, and independent of how much is printed
LINE_BYTES = 100
CPU_S_MAX = 5.0  # of the node; measured 0.08


@pytest.mark.parametrize("how", ["lines", "one line"])
def test_a_task_that_prints_without_end_is_bounded_and_not_held_up(tmp_path: Path, how: str) -> None:
    end = "\n" if how == "lines" else "x"
    lines = (
        f"block = ('x' * {LINE_BYTES - 1} + {end!r}) * 10_000",
        f"for _ in range({PRINTED_BYTES // LINE_BYTES // 10_000}): print(block, end='', flush=True)",
    )

    async def test(trainer: WorkerTrainer) -> None:
        ears = Ears()
        session = await trainer.open(given(tmp_path, *lines), ears)
        node = psutil.Process(os.getpid())
        resident, cpu_s, begun = node.memory_info().rss, time.process_time(), trio.current_time()
        assert (await train(session)).samples == 4
        await session.close()
        assert node.memory_info().rss - resident < GROWTH_BYTES_MAX
        assert time.process_time() - cpu_s < CPU_S_MAX
        kept = ears.texts("stdout")
        assert len(kept) <= LINES_BURST + LINES_PER_S * (trio.current_time() - begun + 1)
        printed = PRINTED_BYTES // LINE_BYTES if how == "lines" else 1
        assert len(kept) + sum(int(text.split()[0]) for text in ears.texts("log")) == printed
        assert all("were left out: the task says too much; 20 lines" in text for text in ears.texts("log"))

    go(tmp_path, test)
